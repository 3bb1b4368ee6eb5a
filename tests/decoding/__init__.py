"""A package, so that `decoding` is this one and not the benchmark of that name."""
