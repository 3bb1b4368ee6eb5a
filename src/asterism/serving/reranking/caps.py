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
        self._members = np.ascontiguousarray(members.T)
        self._lengths = [min(window, slots) for window in caps.windows]
        # Plain lists, as a step changes few of them. By row, what it counts in: windows and their capped categories;
        # by those, how many there are in the window from each slot on; by slot, which categories are full.
        self._of_row: list[list[tuple[int, int, int]]] = [[] for _ in range(len(members))]
        self._counts: dict[tuple[int, int], list[int]] = {}
        self._full: list[set[int]] = [set() for _ in range(slots)]
        for window, most in enumerate(caps.most):
            for row, category in zip(*(one.tolist() for one in np.nonzero(members & (most < UNCAPPED))), strict=True):
                self._of_row[row].append((window, category, int(most[category])))
                self._counts.setdefault((window, category), [0] * (slots - self._lengths[window] + 1))

    def place(self, row: int, slot: int) -> None:
        """Count a candidate at a slot (from 0), which may lie ahead of those still empty."""
        for window, category, most in self._of_row[row]:
            length, counts = self._lengths[window], self._counts[window, category]
            for start in range(max(0, slot - length + 1), min(slot + 1, len(counts))):
                counts[start] += 1
                if counts[start] == most:
                    for full in self._full[start : start + length]:
                        full.add(category)

    def admissible(self, slot: int) -> NDArray[np.bool_] | None:
        """(n,) which candidates break no cap at this slot; None where all do not."""
        if not self._full[slot]:
            return None
        admitted: NDArray[np.bool_] = ~np.logical_or.reduce(self._members[list(self._full[slot])])
        return admitted
