"""Memory that a writer changes while others read: what a reader can see is never written to again."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]

#: Spare rows of a new arena: a share of those used, and as many more.
_SPARE_SHARE: Final = 8
_SPARE_ROWS: Final = 4096


def with_spare(rows: int) -> int:
    """How many rows an arena gets that needs this many now."""
    return rows + rows // _SPARE_SHARE + _SPARE_ROWS


class Arena:
    """Columns of as many rows, handed out in runs of rows.

    A released run is handed out again only once no snapshot is left that may read it. Growing makes new columns, so
    that a snapshot keeps those that it holds.
    """

    __slots__ = ("_free", "columns", "used")

    def __init__(self, columns: Columns, used: int) -> None:
        """Take the columns, of which the first `used` rows are in use."""
        self.columns = columns
        self.used = used
        self._free: dict[int, deque[tuple[int, int]]] = {}

    @classmethod
    def of_types(cls, types: dict[str, tuple[np.dtype[Any], tuple[int, ...]]], used: int) -> Arena:
        """Zeroed columns, each of a type and a shape beyond the rows, with `used` rows in use and some to spare."""
        rows = with_spare(used)
        return cls({name: np.zeros((rows, *shape), dtype=kind) for name, (kind, shape) in types.items()}, used)

    def allocate(self, rows: int, oldest: int) -> int:
        """The first of `rows` rows that no snapshot from version `oldest` on reads."""
        free = self._free.get(rows)
        if free and free[0][0] <= oldest:
            return free.popleft()[1]
        start = self.used
        if start + rows > len(next(iter(self.columns.values()))):
            self._grow(start + rows)
        self.used += rows
        return start

    def release(self, start: int, rows: int, version: int) -> None:
        """Give back rows that no snapshot from `version` on reads."""
        self._free.setdefault(rows, deque()).append((version, start))

    def _grow(self, rows: int) -> None:
        whole = with_spare(rows)
        grown = {}
        for name, column in self.columns.items():
            grown[name] = np.zeros((whole, *column.shape[1:]), dtype=column.dtype)
            grown[name][: self.used] = column[: self.used]
        self.columns = grown


class Pages:
    """Rows by number, in pages that are copied when one of their rows changes; page 0 of the arena stays blank."""

    __slots__ = ("arena", "shift", "table")

    def __init__(self, arena: Arena, table: NDArray[np.int32], shift: int) -> None:
        """Take an arena, the arena's page for every page of rows, and the logarithm of rows a page."""
        self.arena = arena
        self.table = table
        self.shift = shift

    def reach(self, rows: int) -> None:
        """Make room for so many rows; new ones are blank."""
        pages = -(-rows >> self.shift) if rows else 0
        if pages > len(self.table):
            whole = max(pages, len(self.table) + len(self.table) // _SPARE_SHARE)
            self.table = np.concatenate([self.table, np.zeros(whole - len(self.table), dtype=np.int32)])

    def renew(self, row: int, oldest: int, version: int) -> int:
        """Where a row may now be written: on a copy of its page that snapshots before `version` do not see."""
        size = 1 << self.shift
        page = row >> self.shift
        old = int(self.table[page])
        new = self.arena.allocate(size, oldest) >> self.shift
        for column in self.arena.columns.values():
            column[new << self.shift : (new + 1) << self.shift] = column[old << self.shift : (old + 1) << self.shift]
        table = self.table.copy()
        table[page] = new
        self.table = table
        if old:
            self.arena.release(old << self.shift, size, version)
        return (new << self.shift) + (row & (size - 1))


def locate(table: NDArray[np.int32], rows: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """Where rows stand in the arena of their pages."""
    return np.asarray((table[rows >> shift].astype(np.int64) << shift) + (rows & ((1 << shift) - 1)))
