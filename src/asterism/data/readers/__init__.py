"""Readers: one file a format, from files on disk to raw tables."""
