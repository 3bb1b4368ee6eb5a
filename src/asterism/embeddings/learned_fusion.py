"""Learned fusion: a small residual beside the linear one, trained so that items consumed together lie together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LearnedFusion:
    """y = |x| · unit(x + silu(z W₁ + b) W₂), where z is the centred join of an item's parts and x its linear fusion.

    Every row keeps its length, so that an item about which nothing is known stays at the catalogue's mean.
    """

    first: NDArray[np.float32]  # (Σr, hidden)
    bias: NDArray[np.float32]  # (hidden,)
    second: NDArray[np.float32]  # (hidden, width)

    def transform(self, centred: NDArray[np.float32], linear: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, width) from the (N, Σr) centred join and the (N, width) rows of the linear fusion."""
        inner = centred @ self.first + self.bias
        moved = linear + (inner / (1.0 + np.exp(-inner))) @ self.second
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        scale = np.linalg.norm(linear, axis=1, keepdims=True) / np.maximum(lengths, 1e-12)
        scaled: NDArray[np.float32] = moved * scale
        return scaled.astype(np.float32)
