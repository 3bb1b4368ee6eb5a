"""At most so many of one category in the slate, or in any few slots in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: More than any slate holds.
UNCAPPED: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Caps:
    """Within any `windows[w]` slots in a row there may be at most `most[w, c]` items of category c."""

    windows: tuple[int, ...]
    most: NDArray[np.int64]  # (W, C)


class CapCounter:
    """Counts categories slot by slot, so that what would break a cap is known before it is placed."""

    def __init__(self, caps: Caps, members: NDArray[np.bool_], slots: int) -> None:
        """Take the caps, which candidate is in which category (n, C), and the length of the slate."""
        self._members = members
        self._most = caps.most
        self._lengths = [min(window, slots) for window in caps.windows]
        shape = members.shape[1]
        self._counts = [np.zeros((slots - length + 1, shape), dtype=np.int64) for length in self._lengths]

    def place(self, row: int, slot: int) -> None:
        """Count a candidate at a slot (from 0), which may lie ahead of those still empty."""
        for length, counts in zip(self._lengths, self._counts, strict=True):
            counts[max(0, slot - length + 1) : slot + 1] += self._members[row]

    def admissible(self, slot: int) -> NDArray[np.bool_]:
        """(n,) which candidates break no cap at this slot."""
        full: NDArray[np.bool_] = np.zeros(self._members.shape[1], dtype=np.bool_)
        for length, counts, most in zip(self._lengths, self._counts, self._most, strict=True):
            np.logical_or(full, counts[max(0, slot - length + 1) : slot + 1].max(axis=0) >= most, out=full)
        if not full.any():
            return np.ones(len(self._members), dtype=np.bool_)
        admitted: NDArray[np.bool_] = ~(self._members @ full)
        return admitted
