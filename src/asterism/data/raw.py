"""Rows as a file gave them, before anyone checked what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from asterism.data.columns import Rows
from asterism.data.timestamps import TimestampUnit


class UnreadableLine(NamedTuple):
    """A line that is not even a row."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class RawTable:
    """One file's rows under the file's own column names; text may be `binary`, `large_binary` may be no text."""

    file: str
    table: pa.Table
    lines_of: Callable[[Rows], Rows]  # ascending rows → lines of the file, both as arrays
    unreadable: tuple[UnreadableLine, ...] = ()
    timestamp_unit: TimestampUnit | None = None  # what the format says, unless the user says otherwise
    notes: tuple[str, ...] = ()  # what a reader changed, for the import summary

    def with_table(self, table: pa.Table) -> RawTable:
        """The same rows under other columns."""
        return replace(self, table=table)

    def with_unit(self, unit: TimestampUnit) -> RawTable:
        """The same rows, with the unit that the format fixes."""
        return replace(self, timestamp_unit=unit)

    def with_note(self, note: str) -> RawTable:
        """The same rows, with one more thing to tell the user."""
        return replace(self, notes=(*self.notes, note))


@dataclass(frozen=True, slots=True)
class RawDataset:
    """All files of a data set; a table may be spread over several."""

    format: str
    interactions: tuple[RawTable, ...]
    items: tuple[RawTable, ...] = ()
    users: tuple[RawTable, ...] = ()
    notes: tuple[str, ...] = ()  # on the folder as a whole


def rows_as_lines(rows: Rows) -> Rows:
    """Lines of a file that has no lines: its rows, counted from one."""
    return rows + 1
