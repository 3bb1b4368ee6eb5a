"""Recommending by a device's own queue: a graph per size of batch, recorded once and replayed without the host."""
