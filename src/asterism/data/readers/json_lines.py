"""JSON lines: one object a line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from asterism.core.errors import DataError
from asterism.core.progress import track
from asterism.data.columns import LARGEST_EXACT_WHOLE, Rows, as_text
from asterism.data.raw import RawTable, UnreadableLine

_BATCH_LINES = 50_000
_FIRST_LINES = 100  # among which a format must show
_TEXTS = pa.list_(pa.string())

Row = dict[str, object]


def read_json_lines(
    file: Path,
    shape: Callable[[Row], Row] | None = None,
    parse: Callable[[str], object] = json.loads,
) -> RawTable:
    """Read one object a line, also gzipped; `shape` picks and renames fields, `parse` reads one line.

    Lines that hold no object, or bytes that are not UTF-8, are set apart. Raises `DataError` on an empty file.
    """
    lines: list[int] = []
    unreadable: list[UnreadableLine] = []
    tables: list[pa.Table] = []
    numbered = ((line, data) for line, data in enumerate(track(_lines(file), file.name), start=1) if data.strip())
    while batch := list(islice(numbered, _BATCH_LINES)):
        rows = []
        for line, data in batch:
            row = _row(line, data, parse)
            if isinstance(row, UnreadableLine):
                unreadable.append(row)
            else:
                lines.append(line)
                rows.append(row if shape is None else shape(row))
        tables.append(_table(rows))
    if not lines and not unreadable:
        raise DataError("the file is empty", file=str(file))
    if not lines:
        reason = f"{unreadable[0].reason}, nor does any other; write one JSON object a line"
        raise DataError(reason, file=str(file), line=unreadable[0].line)
    line_of_row = np.array(lines, dtype=np.int64)

    def lines_of(rows: Rows) -> Rows:
        return line_of_row[rows]

    return RawTable(str(file), _concatenate(tables), lines_of, tuple(unreadable))


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb") as stream:
            yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file cannot be read ({error}); fetch or write it again", file=str(file)) from error


def _row(line: int, data: bytes, parse: Callable[[str], object]) -> Row | UnreadableLine:
    try:
        text = data.decode("utf-8-sig" if line == 1 else "utf-8")
        value = parse(text)
    except UnicodeDecodeError:
        return UnreadableLine(line, "the line is not UTF-8", data.decode("utf-8", "replace").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return UnreadableLine(line, "the line is not an object that can be read", text.strip())
    if "\\u" in text and not is_encodable(value):
        return UnreadableLine(line, "the line holds half of a surrogate pair", text.strip())
    if not isinstance(value, dict):
        return UnreadableLine(line, "the line holds no object", text.strip())
    return {str(name): _plain(one) for name, one in value.items()}


def is_encodable(value: object) -> bool:
    """Whether all text in a JSON value is Unicode, without half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: object) -> object:
    """A value that an Arrow column can hold: a nested object becomes its JSON text."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        numbers = all(isinstance(one, int | float) for one in value)
        return value if numbers and value else _texts(value)
    return value


def _text(value: object) -> str | None:
    """A value as text: a whole number as `as_text` writes it, NaN as none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT_WHOLE:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(rows: list[Row]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _texts(value: list[object]) -> list[str]:
    return [text for one in value if one is not None and (text := _text(one)) is not None]


def _column(values: list[object]) -> pa.Array:
    """Values as the type that holds them all; lists among them make lists of text, else they are text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        if any(isinstance(value, list) for value in values):
            lists = (value if isinstance(value, list) or value is None else [value] for value in values)
            return pa.array([None if one is None else _texts(one) for one in lists], _TEXTS)
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _concatenate(tables: list[pa.Table]) -> pa.Table:
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    return pa.table({name: _joined([_pick(table, name) for table in tables]) for name in names})


def _pick(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table[name] if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])


def _joined(parts: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """One column from batches that may have been read as different types."""
    kind = _common_type({part.type for part in parts})
    try:
        parts = [_as_type(part, kind) for part in parts]
    except pa.ArrowInvalid:  # a whole number of a list that float64 does not hold
        kind = _TEXTS
        parts = [_as_type(part, kind) for part in parts]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], kind)


def _common_type(kinds: set[pa.DataType]) -> pa.DataType:
    """What holds values of all types: the only one, lists of numbers for such lists, lists of text for others."""
    kinds -= {pa.null()}
    if len(kinds) <= 1:
        return next(iter(kinds), pa.null())
    if not any(pa.types.is_list(kind) for kind in kinds):
        return pa.string()
    inner = {kind.value_type if pa.types.is_list(kind) else pa.string() for kind in kinds} - {pa.null()}
    if len(inner) == 1:
        return pa.list_(inner.pop())
    return pa.list_(pa.float64()) if inner == {pa.int64(), pa.float64()} else _TEXTS


def _as_type(part: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if part.type == kind or pa.types.is_null(part.type):
        return part.cast(kind)
    if pa.types.is_string(kind):
        return as_text(part)
    if pa.types.is_list(part.type):
        return part.cast(kind)
    return pa.chunked_array([_one_each(chunk) for chunk in as_text(part).chunks], kind)


def _one_each(texts: pa.StringArray) -> pa.ListArray:
    """Every text as a list of one."""
    ends = np.concatenate([[0], np.cumsum(texts.is_valid().to_numpy(zero_copy_only=False))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), texts.drop_null(), mask=texts.is_null())


def first_object(file: Path, parse: Callable[[str], object] = json.loads) -> Row | None:
    """The first object among a file's first lines, or None where they hold none; for telling formats apart."""
    for line, data in enumerate(islice(_lines(file), _FIRST_LINES), start=1):
        row = _row(line, data, parse)
        if not isinstance(row, UnreadableLine):
            return row
    return None
