"""Which format a folder is in: told by its files, or named by the user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from asterism.core.errors import DataError
from asterism.data.raw import RawDataset
from asterism.data.readers.amazon import (
    is_amazon,
    is_metadata_file,
    is_review_file,
    read_amazon,
    read_metadata,
    read_reviews,
)
from asterism.data.readers.contract import is_contract, read_contract, read_named_files
from asterism.data.readers.files import read_file
from asterism.data.readers.minionerec import is_minionerec, read_minionerec
from asterism.data.readers.movielens import is_movielens, read_movielens
from asterism.data.readers.recbole import is_recbole, read_recbole


class FolderReader(NamedTuple):
    """How one format is recognised and read."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path], RawDataset]


#: In the order in which they are tried.
FOLDER_READERS = {
    "contract": FolderReader(is_contract, read_contract),
    "movielens": FolderReader(is_movielens, read_movielens),
    "recbole": FolderReader(is_recbole, read_recbole),
    "minionerec": FolderReader(is_minionerec, read_minionerec),
    "amazon": FolderReader(is_amazon, read_amazon),
}


def detect_format(folder: Path) -> str:
    """The name of a folder's format; raises `DataError` where it is none of those known."""
    _require_folder(folder)
    for name, reader in FOLDER_READERS.items():
        if reader.recognises(folder):
            return name
    held = ", ".join(sorted(one.name for one in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"the format cannot be told (the folder holds {held}); name it with `--format` "
        f"({', '.join(FOLDER_READERS)}), or name the files with `--interactions` and `--items`",
        file=str(folder),
    )


def read_folder(folder: Path, format: str = "auto") -> RawDataset:
    """Read a folder in a named format, or in the one that is detected; raises `DataError`."""
    name = detect_format(folder) if format == "auto" else format
    if name not in FOLDER_READERS:
        raise DataError(f"{name!r} is no format; known: auto, {', '.join(FOLDER_READERS)}")
    _require_folder(folder)
    return FOLDER_READERS[name].read(folder)


def _require_folder(folder: Path) -> None:
    if folder.is_file():
        raise DataError("this is a file; name the folder it lies in, or name it as `interactions`", file=str(folder))
    if not folder.is_dir():
        raise DataError("there is no such folder; check the path", file=str(folder))


def read_files(interactions: Path, items: Path | None, users: Path | None, format: str = "auto") -> RawDataset:
    """Read named files: plain tables, or Amazon's reviews and metadata beside plain ones; raises `DataError`."""
    if format not in ("auto", "contract", "amazon"):
        raise DataError(f"the format {format!r} is read from a folder; give it with `--folder`")
    if format == "contract" or (format == "auto" and not is_review_file(interactions)):
        return read_named_files(interactions, items, users)
    for file in (interactions, items):
        if file is not None and not file.is_file():
            raise DataError("there is no such file; check the path", file=str(file))
    return RawDataset(
        "amazon",
        (read_reviews(interactions),),
        () if items is None else (read_metadata(items) if is_metadata_file(items) else read_file(items),),
        () if users is None else (read_file(users),),
    )
