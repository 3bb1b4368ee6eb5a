"""A data set in the contract's form: interactions, items, and optionally users, as Arrow tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from asterism.core.errors import DataError
from asterism.core.hashing import hash_file

INTERACTIONS_FILE = "interactions.parquet"
ITEMS_FILE = "items.parquet"
USERS_FILE = "users.parquet"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tables that already follow the contract (asterism.data.schema); rows keep the order of their files."""

    interactions: pa.Table
    items: pa.Table
    users: pa.Table | None = None

    def save(self, folder: Path) -> None:
        """Write the tables as Parquet files into a folder; older ones are replaced only once all are written."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {INTERACTIONS_FILE: self.interactions, ITEMS_FILE: self.items, USERS_FILE: self.users}
        written = [(folder / f".{name}.writing", folder / name) for name, table in tables.items() if table is not None]
        for staged, target in written:
            pq.write_table(tables[target.name], staged)
        for staged, target in written:
            staged.replace(target)
        if self.users is None:
            (folder / USERS_FILE).unlink(missing_ok=True)


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a saved data set; raises `DataError` where there is none."""
    files = [folder / name for name in (INTERACTIONS_FILE, ITEMS_FILE, USERS_FILE)]
    found = {file.name: hash_file(file) for file in files if file.is_file()}
    if INTERACTIONS_FILE not in found:
        raise DataError("there is no such file; `asterism data import` writes it", file=str(files[0]))
    return found
