"""Codes that tell apart items whose paths are equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def deduplication_codes(paths: NDArray[np.int32]) -> NDArray[np.int32]:
    """(N,) each row's rank, by index, among the rows with the same path."""
    _, group = np.unique(paths, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = group.argsort(kind="stable")
    counts = np.bincount(group)
    starts = np.cumsum(counts) - counts
    codes = np.empty(len(paths), dtype=np.int32)
    codes[order] = np.arange(len(paths)) - np.repeat(starts, counts)
    return codes
