"""What `hot_path.py` is made of."""
