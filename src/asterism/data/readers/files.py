"""Any one file in a plain format, told by its name."""

from __future__ import annotations

from pathlib import Path

from asterism.core.errors import DataError
from asterism.data.raw import RawTable
from asterism.data.readers.delimited import layout_of, read_delimited
from asterism.data.readers.json_lines import read_json_lines
from asterism.data.readers.parquet_files import read_parquet

_TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
PLAIN_SUFFIXES = (".parquet", *_TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in _TEXT_SUFFIXES))


def read_file(file: Path) -> RawTable:
    """Read a Parquet, CSV, TSV or JSON lines file; raises `DataError` where it is missing or of another kind."""
    if file.is_dir():
        raise DataError("this is a folder; name a file in it, or import it with `--folder`", file=str(file))
    if not file.is_file():
        raise DataError("there is no such file; check the path", file=str(file))
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return read_parquet(file)
    if name.endswith((".csv", ".tsv")):
        return read_delimited(file, layout_of(file))
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return read_json_lines(file)
    raise DataError(
        f"this kind of file is not read by itself; use one of {', '.join(PLAIN_SUFFIXES)}, "
        "or name the folder of a known format with `--folder`",
        file=str(file),
    )


def find_file(folder: Path, stem: str) -> Path | None:
    """The one plain file of a name in a folder, or None; raises `DataError` where there are two."""
    found = [folder / f"{stem}{suffix}" for suffix in PLAIN_SUFFIXES if (folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise DataError(f"there are several files for `{stem}` ({names}); keep one", file=str(folder))
    return found[0] if found else None
