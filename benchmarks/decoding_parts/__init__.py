"""What `benchmarks/decoding.py` is made of."""
