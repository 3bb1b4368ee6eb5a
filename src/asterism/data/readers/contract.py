"""A folder in the contract's own form: `interactions.*`, `items.*`, `users.*`."""

from __future__ import annotations

from pathlib import Path

from asterism.core.errors import DataError
from asterism.data.raw import RawDataset, RawTable
from asterism.data.readers.files import PLAIN_SUFFIXES, find_file, read_file
from asterism.data.schema import TableName


def is_contract(folder: Path) -> bool:
    """Whether a folder holds an interactions file."""
    return find_file(folder, TableName.INTERACTIONS) is not None


def read_contract(folder: Path) -> RawDataset:
    """Read a folder's three tables; raises `DataError` where it has no interactions."""
    if not is_contract(folder):
        raise DataError("the folder holds no `interactions` file (parquet, csv, tsv or jsonl)", file=str(folder))
    tables: dict[TableName, tuple[RawTable, ...]] = {}
    for name in TableName:
        file = find_file(folder, name)
        tables[name] = () if file is None else (read_file(file),)
    return RawDataset("contract", tables[TableName.INTERACTIONS], tables[TableName.ITEMS], tables[TableName.USERS])


def read_named_files(interactions: Path, items: Path | None = None, users: Path | None = None) -> RawDataset:
    """Read tables from files that may lie anywhere and be called anything."""
    return RawDataset(
        "files",
        (read_file(interactions),),
        () if items is None else (read_file(items),),
        () if users is None else (read_file(users),),
    )


def check_output(folder: Path) -> None:
    """Raise `DataError` where Parquet tables written to a folder would lie beside older ones of another kind."""
    others = [folder / f"{name}{suffix}" for name in TableName for suffix in PLAIN_SUFFIXES if suffix != ".parquet"]
    found = ", ".join(file.name for file in others if file.exists())
    if found:
        reason = f"the folder holds {found} already, and would hold that table twice; name another folder to write to"
        raise DataError(reason, file=str(folder))
