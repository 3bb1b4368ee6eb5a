"""Users' events as flat arrays with offsets: no padding, no objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Asked:
    """When, and where, each row is asked what comes next."""

    timestamps: NDArray[np.int64]  # (rows,) Unix seconds, -1 where it is not known
    scenes: NDArray[np.uint16] | None = None  # (rows,) as in `Sequences`
    devices: NDArray[np.uint16] | None = None

    def take(self, rows: NDArray[np.integer]) -> Asked:
        """The given rows, in the given order."""
        return Asked(self.timestamps[rows], _at(self.scenes, rows), _at(self.devices, rows))


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows of time-ordered events; row r is `items[offsets[r]:offsets[r + 1]]`, oldest first.

    What the data do not have is None. An event costs 13 bytes, values 4 more, scenes and devices 2 each.
    """

    offsets: NDArray[np.int64]  # (rows + 1,)
    items: NDArray[np.int32]  # (events,) dense item index
    timestamps: NDArray[np.int64]  # (events,) Unix seconds
    actions: NDArray[np.int8]  # (events,) codes of core.records.ACTIONS
    values: NDArray[np.float32] | None = None  # (events,) rating or dwell seconds, NaN for none
    scenes: NDArray[np.uint16] | None = None  # (events,) data.contexts.context_code, 0 for none
    devices: NDArray[np.uint16] | None = None  # (events,) likewise
    attributes: NDArray[np.int32] | None = None  # (rows, A) codes of data.attributes, 0 for none
    asked: Asked | None = None

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

    def pairs_apart(self, distance: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(earlier, later) items of all pairs of one row's events that lie `distance` >= 1 events apart."""
        rows = np.repeat(np.arange(len(self)), self.lengths)
        together = rows[:-distance] == rows[distance:]
        return self.items[:-distance][together], self.items[distance:][together]

    def row(self, index: int) -> slice:
        """Where the events of a row lie."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def take(self, rows: NDArray[np.integer]) -> Sequences:
        """The given rows, in the given order, as new arrays."""
        return self.slices(self.offsets[rows], self.offsets[rows + 1], rows)

    def last(self, count: int) -> Sequences:
        """Every row cut to its `count` newest events."""
        return self.slices(np.maximum(self.offsets[:-1], self.offsets[1:] - count), self.offsets[1:])

    def only(self, keep: NDArray[np.bool_]) -> Sequences:
        """The same rows with those of their events for which `keep` (events,) is True."""
        offsets = np.concatenate(([0], np.cumsum(keep)))[self.offsets].astype(np.int64)
        return self._picked(offsets, np.flatnonzero(keep), np.arange(len(self)))

    def slices(
        self, starts: NDArray[np.int64], stops: NDArray[np.int64], rows: NDArray[np.integer] | None = None
    ) -> Sequences:
        """New rows made of the event ranges [starts, stops), each a part of the row that `rows` names.

        Without `rows`, range r is a part of row r. Raises `ValueError` where they do not pair up.
        """
        rows = np.arange(len(self)) if rows is None else rows
        if len(rows) != len(starts):
            raise ValueError(f"{len(starts)} ranges cannot be parts of {len(rows)} rows; name the row of each range")
        lengths = stops - starts
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        picked = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return self._picked(offsets, picked, rows)

    def _picked(self, offsets: NDArray[np.int64], events: NDArray[np.integer], rows: NDArray[np.integer]) -> Sequences:
        return Sequences(
            offsets,
            self.items[events],
            self.timestamps[events],
            self.actions[events],
            _at(self.values, events),
            _at(self.scenes, events),
            _at(self.devices, events),
            _at(self.attributes, rows),
            None if self.asked is None else self.asked.take(rows),
        )


@dataclass(frozen=True, slots=True)
class Cases:
    """Questions for a recommender: after this history, which item comes next?"""

    histories: Sequences  # row c is the history of case c
    users: NDArray[np.int32]  # (cases,) dense user index
    targets: NDArray[np.int32]  # (cases,) dense item index of the right answer
    timestamps: NDArray[np.int64]  # (cases,) when the target happened, Unix seconds
    actions: NDArray[np.int8]  # (cases,) what was done with the target, codes of core.records.ACTIONS

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[np.integer]) -> Cases:
        """The given cases, in the given order."""
        return Cases(
            self.histories.take(rows), self.users[rows], self.targets[rows], self.timestamps[rows], self.actions[rows]
        )


def _at(column: NDArray[_Number] | None, places: NDArray[np.integer]) -> NDArray[_Number] | None:
    return None if column is None else column[places]
