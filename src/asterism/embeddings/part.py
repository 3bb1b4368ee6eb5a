"""One modality of a catalogue: a vector an item, and which items have one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """Vectors of one modality; a row without data is marked, its numbers mean nothing."""

    vectors: NDArray[np.float32]  # (N, d)
    present: NDArray[np.bool_]  # (N,)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """d, the width of this modality."""
        return int(self.vectors.shape[1])


def absent_part(items: int, width: int) -> Part:
    """A part of which no item has anything."""
    return Part(np.zeros((items, width), dtype=np.float32), np.zeros(items, dtype=np.bool_))
