"""Vectors whose tree of clusters is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tree(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """4 far clusters, each of 4 near ones, each of 30 items: vectors, top and leaf labels."""
    rng = np.random.default_rng(seed)
    top = np.repeat(np.arange(4), 120)
    leaf = np.repeat(np.arange(16), 30)
    branches = np.tile(rng.normal(size=(4, 16)) * 2, (4, 1))
    vectors = rng.normal(size=(4, 16))[top] * 10 + branches[leaf] + rng.normal(size=(480, 16)) * 0.05
    return vectors, top, leaf
