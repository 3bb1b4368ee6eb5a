"""Asterism: a generative recommender that a team can really run."""

__version__ = "0.1.0"
