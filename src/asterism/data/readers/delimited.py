"""Delimited text: CSV, TSV and their relatives. Cells stay bytes, so that a broken one can be named."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from asterism.core.errors import DataError
from asterism.core.progress import track
from asterism.data.columns import Rows
from asterism.data.raw import RawTable, UnreadableLine, rows_as_lines
from asterism.data.readers.quoting import first_broken_span, quotes_enclose_cells

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file holds its cells."""

    delimiter: str = ","
    quoted: bool = True  # cells may stand in double quotes and then hold delimiters and line ends
    names: tuple[str, ...] | None = None  # None: the first line names the columns


class _Record(NamedTuple):
    line: int
    cells: list[str]


def layout_of(file: Path) -> Layout:
    """The layout of a file: tabs for `.tsv`; else commas, or what else parts the cells of the header."""
    if file.name.lower().removesuffix(".gz").endswith(".tsv"):
        return Layout("\t")
    try:
        with _Source(file, Layout(), None).open() as stream:
            header = stream.readline()
    except (OSError, EOFError, zlib.error):  # the reader of the cells will say what is wrong
        return Layout()
    others = [one for one in (";", "\t", "|") if one.encode() in header]
    return Layout(others[0]) if others and b"," not in header else Layout()


def read_delimited(file: Path, layout: Layout, content: bytes | None = None) -> RawTable:
    """Read a text file, or its already converted `content`, into byte columns; an empty cell is null.

    Lines with too few or too many cells are set apart, never padded. Raises `DataError` on an empty
    file, a broken or doubled header, and a quote that joins rows. Quotes of a tab-separated file that
    do not all enclose cells are plain characters.
    """
    source = _Source(file, layout, content)
    try:
        return _read(source)
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"the file cannot be read as delimited text ({error}); fetch or write it again", file=str(file)
        ) from error


def _read(source: _Source) -> RawTable:
    quotes, lines = source.count_quotes_and_lines() if source.layout.quoted else (0, 0)
    notes: tuple[str, ...] = ()
    if quotes and source.layout.delimiter == "\t" and not source.quotes_enclose_cells():
        source = replace(source, layout=replace(source.layout, quoted=False))
        notes = ("not every double quote encloses a cell, so all were read as plain characters",)
    names = source.header()
    if next(source.body(), None) is None:
        empty = pa.table({name: pa.array([], pa.binary()) for name in names})
        return RawTable(str(source.file), empty, rows_as_lines)
    try:
        table, misfits = _read_cells(source, names)
    except pa.ArrowInvalid:
        source.refuse_joined_rows()
        raise
    if quotes and table.num_rows + misfits + source.header_records < lines:
        source.refuse_joined_rows()
    unreadable = tuple(source.misfits(len(names))) if misfits else ()
    return RawTable(str(source.file), table, partial(source.lines_of, width=len(names)), unreadable, notes=notes)


def _read_cells(source: _Source, names: tuple[str, ...]) -> tuple[pa.Table, int]:
    misfits: list[int] = []

    def set_apart(row: pacsv.InvalidRow) -> str:
        misfits.append(row.actual_columns)
        return "skip"

    layout = source.layout
    with source.open() as stream:
        batches = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(column_names=layout.names, block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                invalid_row_handler=set_apart,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.binary() for name in names},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        blocks = source.size_bytes() // _BLOCK_BYTES + 1
        table = pa.Table.from_batches(track(batches, f"reading {source.file.name}", blocks), batches.schema)
    return table, len(misfits)


@dataclass(frozen=True, slots=True)
class _Source:
    file: Path
    layout: Layout
    content: bytes | None

    def open(self) -> BinaryIO:
        if self.content is not None:
            return io.BytesIO(self.content)
        return cast(BinaryIO, gzip.open(self.file)) if self.file.suffix == ".gz" else self.file.open("rb")

    def size_bytes(self) -> int:
        return self.file.stat().st_size if self.content is None else len(self.content)

    def header(self) -> tuple[str, ...]:
        with self.open() as stream:
            first = stream.readline()
        if not first:
            raise DataError("the file is empty", file=str(self.file))
        if self.layout.names is not None:
            return self.layout.names
        try:
            first.decode("utf-8-sig")
        except UnicodeDecodeError:
            reason = "the header is not UTF-8; save the file as UTF-8"
            raise DataError(reason, file=str(self.file), line=1) from None
        names = next(self.records(), _Record(1, [])).cells
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or "" in names:
            what = f"names {', '.join(doubled)} twice" if any(doubled) else "has a column without a name"
            raise DataError(f"the header {what}; give every column a name of its own", file=str(self.file), line=1)
        return tuple(names)

    def count_quotes_and_lines(self) -> tuple[int, int]:
        quotes, lines, last = 0, 0, b"\n"
        with self.open() as stream:
            while block := stream.read(_BLOCK_BYTES):
                quotes += block.count(b'"')
                lines += block.count(b"\n")
                last = block[-1:]
        return quotes, lines + (last != b"\n")

    def quotes_enclose_cells(self) -> bool:
        with self.text() as stream:
            return quotes_enclose_cells(track(stream, f"quotes of {self.file.name}"), self.layout.delimiter)

    def refuse_joined_rows(self) -> None:
        """A quote that is opened and not closed where its cell ends would swallow the rows after it."""
        if not self.layout.quoted:
            return
        with self.text() as stream:
            line = first_broken_span(track(stream, f"quotes of {self.file.name}"), self.layout.delimiter)
        if line is not None:
            reason = "a double quote is never closed at the end of its cell, so rows would run together"
            raise DataError(f"{reason}; close it, or leave it out", file=str(self.file), line=line)

    def text(self) -> io.TextIOWrapper:
        csv.field_size_limit(sys.maxsize)
        return io.TextIOWrapper(self.open(), encoding="utf-8-sig", errors="replace", newline="")

    def records(self) -> Iterator[_Record]:
        """Every record that is not blank, with the line on which it begins; slow, for headers and broken rows."""
        delimiter = self.layout.delimiter
        with self.text() as stream:
            if self.layout.quoted:
                reader = csv.reader(stream, delimiter=delimiter)
            else:
                reader = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE)
            line = 1
            for cells in reader:
                if cells:
                    yield _Record(line, cells)
                line = reader.line_num + 1

    @property
    def header_records(self) -> int:
        return 0 if self.layout.names is not None else 1

    def body(self) -> Iterator[_Record]:
        return islice(self.records(), self.header_records, None)

    def misfits(self, width: int) -> Iterator[UnreadableLine]:
        for record in self.body():
            if len(record.cells) != width:
                reason = f"the line has {len(record.cells)} cells, the header has {width}"
                yield UnreadableLine(record.line, reason, self.layout.delimiter.join(record.cells))

    def lines_of(self, rows: Rows, width: int) -> Rows:
        wanted = int(rows.max(initial=-1)) + 1
        lines = (record.line for record in self.body() if len(record.cells) == width)
        return np.fromiter(islice(lines, wanted), dtype=np.int64)[rows]
