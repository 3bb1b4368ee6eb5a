"""What the double quotes of a text file are: marks around cells, plain characters, or a mistake that joins rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator


def quotes_enclose_cells(lines: Iterable[str], delimiter: str) -> bool:
    """Whether every quote at the start of a cell is closed at the end of one, and no such cell looks like two rows.

    A cell that holds both a line end and the delimiter looks like two rows.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 0
    try:
        for cells in reader:
            if reader.line_num > line + 1 and any("\n" in cell and delimiter in cell for cell in cells):
                return False
            line = reader.line_num
    except csv.Error:
        return False
    return True


def first_broken_span(lines: Iterable[str], delimiter: str) -> int | None:
    """The line on which the first record begins that quotes spread over lines without enclosing a cell."""
    read: list[str] = []

    def remembered() -> Iterator[str]:
        for line in lines:
            read.append(line)
            yield line

    first = 1
    for _ in csv.reader(remembered(), delimiter=delimiter):
        if len(read) > 1 and not _is_well_formed(read, delimiter):
            return first
        first += len(read)
        read.clear()
    return None


def _is_well_formed(lines: list[str], delimiter: str) -> bool:
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return True
