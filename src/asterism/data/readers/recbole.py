"""RecBole's atomic files: `.inter`, `.item`, `.user`; tabs, and a type behind every column's name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from asterism.core import records
from asterism.core.errors import DataError
from asterism.data.raw import RawDataset, RawTable
from asterism.data.readers.delimited import Layout, read_delimited

_TYPES = ("token", "token_seq", "float", "float_seq")
_PARTS = {"train": "train", "valid": "validation", "test": "test"}
_TITLES = ("title", "movie_title", "name", "item_name")


def is_recbole(folder: Path) -> bool:
    """Whether a folder holds an `.inter` file."""
    return any(folder.glob("*.inter"))


def read_recbole(folder: Path) -> RawDataset:
    """Read atomic files; `<name>.train.inter`, `.valid.inter`, `.test.inter` become the split."""
    inter = sorted(folder.glob("*.inter"), key=_by_part)
    if not inter:
        raise DataError("the folder holds no `.inter` file", file=str(folder))
    return RawDataset(
        "recbole",
        tuple(_with_part(_read_atomic(file), file) for file in inter),
        tuple(_with_title(_read_atomic(file)) for file in sorted(folder.glob("*.item"))),
        tuple(_read_atomic(file) for file in sorted(folder.glob("*.user"))),
    )


def _read_atomic(file: Path) -> RawTable:
    raw = read_delimited(file, Layout("\t", quoted=False))
    names, table = [], raw.table
    for position, cell in enumerate(raw.table.column_names):
        name, _, kind = cell.rpartition(":")
        if not name or kind not in _TYPES:
            reason = f"the header cell {cell!r} is not like `user_id:token` (types: {', '.join(_TYPES)})"
            raise DataError(reason, file=str(file), line=1)
        if kind == "token_seq":
            table = table.set_column(position, cell, _barred(table[cell]))
        names.append(name)
    return raw.with_table(table.rename_columns(names))


def _barred(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """A sequence of tokens, parted by spaces, as lists; text that already holds commas or bars stays text."""
    parted = pc.or_(pc.match_substring(cells, ","), pc.match_substring(cells, "|"))
    if pc.any(parted).as_py():
        return cells
    try:
        return pc.split_pattern(cells.cast(pa.string()), " ")
    except pa.ArrowInvalid:
        return cells  # the check of the cells will name those that are not UTF-8


def _by_part(file: Path) -> tuple[int, str]:
    """Parts in order of time, so that of equal timestamps a target stays behind the events it is predicted from."""
    part = _part_of(file)
    return -1 if part is None else list(_PARTS.values()).index(part), file.name


def _part_of(file: Path) -> str | None:
    return _PARTS.get(file.stem.rpartition(".")[2])


def _with_part(raw: RawTable, file: Path) -> RawTable:
    part = _part_of(file)
    if part is None or records.SPLIT in raw.table.column_names:
        return raw
    return raw.with_table(raw.table.append_column(records.SPLIT, pa.repeat(part, raw.table.num_rows)))


def _with_title(raw: RawTable) -> RawTable:
    if any(name in raw.table.column_names for name in _TITLES):
        return raw
    table = raw.table.append_column(records.TITLE, pa.nulls(raw.table.num_rows, pa.string()))
    return raw.with_table(table).with_note("the items have no title")
