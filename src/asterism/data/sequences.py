"""Users' events as flat arrays with offsets: no padding, no objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows of time-ordered events; row r is `items[offsets[r]:offsets[r + 1]]`, oldest first."""

    offsets: NDArray[np.int64]  # (rows + 1,)
    items: NDArray[np.int32]  # (events,) dense item index
    timestamps: NDArray[np.int64]  # (events,) Unix seconds
    actions: NDArray[np.int8]  # (events,) codes of core.records.ACTIONS

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def events(self) -> int:
        """The number of events in all rows."""
        return len(self.items)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) events in each row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> slice:
        """Where the events of a row lie."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def take(self, rows: NDArray[np.integer]) -> Sequences:
        """The given rows, in the given order, as new arrays."""
        return self.slices(self.offsets[rows], self.offsets[rows + 1])

    def last(self, count: int) -> Sequences:
        """Every row cut to its `count` newest events."""
        return self.slices(np.maximum(self.offsets[:-1], self.offsets[1:] - count), self.offsets[1:])

    def slices(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Sequences:
        """New rows made of the event ranges [starts, stops)."""
        lengths = stops - starts
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        picked = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Sequences(offsets, self.items[picked], self.timestamps[picked], self.actions[picked])


@dataclass(frozen=True, slots=True)
class Cases:
    """Questions for a recommender: after this history, which item comes next?"""

    histories: Sequences  # row c is the history of case c
    users: NDArray[np.int32]  # (cases,) dense user index
    targets: NDArray[np.int32]  # (cases,) dense item index of the right answer
    timestamps: NDArray[np.int64]  # (cases,) when the target happened, Unix seconds

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[np.integer]) -> Cases:
        """The given cases, in the given order."""
        return Cases(self.histories.take(rows), self.users[rows], self.targets[rows], self.timestamps[rows])
