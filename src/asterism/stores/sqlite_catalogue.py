"""The catalogue in one SQLite file, in write-ahead mode."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from asterism.core.errors import StorageError, UnknownIdError
from asterism.stores.catalogue import Item, StoredItem

#: Each step takes the schema from the version that equals its position to the next.
MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE items (
        item_id TEXT PRIMARY KEY, title TEXT NOT NULL, description TEXT, categories TEXT NOT NULL,
        brand TEXT, price REAL, kind TEXT NOT NULL, created_at INTEGER,
        available INTEGER NOT NULL, hidden INTEGER NOT NULL DEFAULT 0, bundle_version TEXT
    ) WITHOUT ROWID;
    CREATE TABLE images (item_id TEXT PRIMARY KEY, svg TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX items_by_title ON items (title COLLATE NOCASE);
    """,
)

_UPSERT = """
    INSERT INTO items
        (item_id, title, description, categories, brand, price, kind, created_at, available, bundle_version)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (item_id) DO UPDATE SET
        title = excluded.title, description = excluded.description, categories = excluded.categories,
        brand = excluded.brand, price = excluded.price, kind = excluded.kind, created_at = excluded.created_at,
        available = excluded.available, bundle_version = COALESCE(excluded.bundle_version, bundle_version)
"""
_UPSERT_IMAGE = "INSERT INTO images VALUES (?, ?) ON CONFLICT (item_id) DO UPDATE SET svg = excluded.svg"
_SELECT = """
    SELECT item_id, title, description, categories, brand, price, kind, created_at, available AND NOT hidden,
           EXISTS (SELECT 1 FROM images WHERE images.item_id = items.item_id)
    FROM items
"""
_SELECT_STORED = """
    SELECT items.item_id, title, description, categories, brand, price, kind, created_at, available, hidden, svg
    FROM items LEFT JOIN images USING (item_id)
"""
_VARIABLES_PER_QUERY = 900  # below the 999 that the oldest SQLite allows


class SqliteCatalogue:
    """Implements `Catalogue` for one process; a lock lets any thread use its single connection."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises `StorageError` where that cannot be done."""
        self._path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate(path)
            self._unavailable = self._read_unavailable()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{path}: the catalogue cannot be opened ({error}); move the file away to rebuild it"
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; raises `StorageError` where SQLite fails."""
        try:
            with self._lock:
                yield self._connection
        except sqlite3.Error as error:
            raise StorageError(
                f"{self._path}: the catalogue cannot be used ({error}); make room on the disk, or move the file away"
            ) from error

    def _migrate(self, path: Path) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise StorageError(f"{path}: schema {version} is newer than the known {len(MIGRATIONS)}; upgrade Asterism")
        for step, script in enumerate(MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {step}; COMMIT;")

    def upsert(self, items: Iterable[Item], images: Mapping[str, str] | None = None) -> None:
        """See `Catalogue.upsert`."""
        with self._locked() as connection, connection:
            self._write(items, images or {}, version=None)
        self._refresh()

    def sync(self, items: Iterable[Item], images: Mapping[str, str], version: str) -> None:
        """See `Catalogue.sync`."""
        with self._locked() as connection, connection:
            self._write(items, images, version)
            connection.execute(
                "UPDATE items SET available = 0 WHERE bundle_version IS NOT NULL AND bundle_version <> ?", (version,)
            )
        self._refresh()

    def _write(self, items: Iterable[Item], images: Mapping[str, str], version: str | None) -> None:
        rows = (
            (
                item.item_id,
                item.title,
                item.description,
                json.dumps(item.categories),
                item.brand,
                item.price,
                item.kind,
                item.created_at,
                item.available,
                version,
            )
            for item in items
        )
        self._connection.executemany(_UPSERT, rows)
        self._connection.executemany(_UPSERT_IMAGE, images.items())

    def get(self, item_id: str) -> Item:
        """See `Catalogue.get`."""
        found = self.many([item_id]).get(item_id)
        if found is None:
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue")
        return found

    def many(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """See `Catalogue.many`."""
        wanted = list(dict.fromkeys(item_ids))
        found: dict[str, Item] = {}
        for start in range(0, len(wanted), _VARIABLES_PER_QUERY):
            some = wanted[start : start + _VARIABLES_PER_QUERY]
            marks = ",".join("?" * len(some))
            for item in self._select(f"WHERE item_id IN ({marks})", some):
                found[item.item_id] = item
        return found

    def search(
        self, text: str = "", *, category: str | None = None, available: bool | None = True, limit: int = 20
    ) -> list[Item]:
        """See `Catalogue.search`."""
        if "\x00" in text:
            return []
        where, values = ["instr(lower(title), lower(?)) > 0"], [text]  # LIKE would refuse a long text
        if category is not None:
            where.append("EXISTS (SELECT 1 FROM json_each(categories) WHERE value = ?)")
            values.append(category)
        if available is not None:
            where.append("(available AND NOT hidden)" if available else "NOT (available AND NOT hidden)")
        order = "ORDER BY title COLLATE NOCASE, item_id LIMIT ?"
        return self._select(f"WHERE {' AND '.join(where)} {order}", [*values, limit])

    def image(self, item_id: str) -> str | None:
        """See `Catalogue.image`."""
        with self._locked() as connection:
            row = connection.execute("SELECT svg FROM images WHERE item_id = ?", (item_id,)).fetchone()
        if row is None:
            self.get(item_id)
            return None
        return str(row[0])

    def set_hidden(self, item_id: str, hidden: bool) -> None:
        """See `Catalogue.set_hidden`."""
        with self._locked() as connection, connection:
            changed = connection.execute("UPDATE items SET hidden = ? WHERE item_id = ?", (hidden, item_id))
        if changed.rowcount == 0:
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue")
        self._refresh()

    def unavailable(self) -> frozenset[str]:
        """See `Catalogue.unavailable`; kept in memory, as this process is the only writer."""
        return self._unavailable

    def delete(self, item_ids: Iterable[str]) -> int:
        """See `Catalogue.delete`."""
        rows = [(one,) for one in dict.fromkeys(item_ids)]
        with self._locked() as connection, connection:
            connection.executemany("DELETE FROM images WHERE item_id = ?", rows)
            deleted = connection.executemany("DELETE FROM items WHERE item_id = ?", rows).rowcount
        self._refresh()
        return max(0, deleted)

    def export(self) -> Iterator[StoredItem]:
        """See `Catalogue.export`."""
        last: str | None = None
        while True:
            where, values = ("WHERE item_id > ?", [last]) if last is not None else ("", [])
            with self._locked() as connection:
                rows = connection.execute(f"{_SELECT_STORED} {where} ORDER BY item_id LIMIT 1000", values).fetchall()
            if not rows:
                return
            for *row, hidden, image in rows:
                yield StoredItem(_item((*row, image is not None)), bool(hidden), image)
            last = rows[-1][0]

    def restore(self, items: Iterable[StoredItem]) -> None:
        """See `Catalogue.restore`."""
        rows = list(items)
        with self._locked() as connection, connection:
            images = {one.item.item_id: one.image for one in rows if one.image is not None}
            self._write((one.item for one in rows), images, version=None)
            hidden = [(one.hidden, one.item.item_id) for one in rows]
            connection.executemany("UPDATE items SET hidden = ? WHERE item_id = ?", hidden)
        self._refresh()

    def __len__(self) -> int:
        with self._locked() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM items").fetchone()[0])

    def close(self) -> None:
        """See `Catalogue.close`."""
        with self._lock:
            self._connection.close()

    def _refresh(self) -> None:
        with self._locked():
            self._unavailable = self._read_unavailable()

    def _read_unavailable(self) -> frozenset[str]:
        rows = self._connection.execute("SELECT item_id FROM items WHERE NOT (available AND NOT hidden)")
        return frozenset(row[0] for row in rows)

    def _select(self, clause: str, values: Sequence[str | int]) -> list[Item]:
        with self._locked() as connection:
            rows = connection.execute(f"{_SELECT} {clause}", values).fetchall()
        return [_item(row) for row in rows]


def _item(row: tuple[Any, ...]) -> Item:
    item_id, title, description, categories, brand, price, kind, created_at, available, has_image = row
    return Item(
        item_id,
        title,
        description,
        tuple(json.loads(categories)),
        brand,
        price,
        kind,
        created_at,
        available=bool(available),
        has_image=bool(has_image),
    )
