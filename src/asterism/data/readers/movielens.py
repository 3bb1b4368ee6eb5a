"""MovieLens: `ratings.csv` and `movies.csv`, or the older `::` files in UTF-8 or Latin-1."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from asterism.core import records
from asterism.core.errors import DataError
from asterism.data.raw import RawDataset, RawTable
from asterism.data.readers.delimited import Layout, read_delimited

_CELL = "\x1f"  # in no title
_NO_GENRES = b"(no genres listed)"

_RATINGS = (records.USER_ID, records.ITEM_ID, "rating", records.TIMESTAMP)
_MOVIES = (records.ITEM_ID, records.TITLE, "genres")
_USERS = (records.USER_ID, "gender", "age", "occupation", "zip_code")


def is_movielens(folder: Path) -> bool:
    """Whether a folder holds MovieLens ratings."""
    csv = (folder / "ratings.csv").is_file() and (folder / "movies.csv").is_file()
    return csv or (folder / "ratings.dat").is_file()


def read_movielens(folder: Path) -> RawDataset:
    """Read ratings as events of the action `rating`, movies as items, and `users.dat` where there is one."""
    if (folder / "ratings.dat").is_file():
        users = folder / "users.dat"
        return RawDataset(
            "movielens",
            (_read_colons(folder / "ratings.dat", _RATINGS),),
            (_as_movies(_read_colons(_required(folder / "movies.dat"), _MOVIES)),),
            (_read_colons(users, _USERS),) if users.is_file() else (),
        )
    ratings = read_delimited(_required(folder / "ratings.csv"), Layout())
    movies = read_delimited(_required(folder / "movies.csv"), Layout())
    return RawDataset("movielens", (ratings,), (_as_movies(movies),))


def _required(file: Path) -> Path:
    if not file.is_file():
        raise DataError("the file is missing; unpack the MovieLens archive again", file=str(file))
    return file


def _read_colons(file: Path, names: tuple[str, ...]) -> RawTable:
    content = file.read_bytes()
    if not content:
        raise DataError("the file is empty", file=str(file))
    try:
        content.decode()
    except UnicodeDecodeError:  # 100K and 1M are in Latin-1, 10M is in UTF-8
        content = content.decode("latin-1").encode()
    content = content.replace(b"::", _CELL.encode())
    return read_delimited(file, Layout(_CELL, quoted=False, names=names), content)


def _as_movies(raw: RawTable) -> RawTable:
    table = raw.table
    if "genres" in table.column_names:
        genres = table["genres"]
        none = pc.equal(genres, pa.scalar(_NO_GENRES, genres.type))
        table = table.set_column(table.column_names.index("genres"), "genres", pc.if_else(none, None, genres))
    kinds = pa.repeat(records.Kind.MOVIE.value, table.num_rows)
    return raw.with_table(table.append_column(records.KIND, kinds))
