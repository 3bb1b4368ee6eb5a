"""A package, so that `serving` is this one and not the benchmark of that name."""
