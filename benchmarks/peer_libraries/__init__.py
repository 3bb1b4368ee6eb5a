"""Recommenders of other libraries, fitted for `benchmarks/peers.py`."""
