"""The catalogue in an SQL database: PostgreSQL for many processes, SQLite for a few."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    column,
    delete,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    table,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from asterism.core.errors import UnknownIdError
from asterism.stores.catalogue import ANY_ITEM, Item, ItemFilter, StoredItem
from asterism.stores.outages import Outage
from asterism.stores.sql_database import Database
from asterism.stores.sql_tables import CATALOGUE_CHANGES, DELETED_ITEMS, IMAGES, IS_SHOWN, ITEMS, TITLE_START
from asterism.stores.sql_texts import delete_texts, matching, put_texts

logger = logging.getLogger(__name__)

_OURS: Final = {"hidden", "bundle_version", "changed"}
_FIELDS: Final = tuple(name for name in (column.name for column in ITEMS.c) if name not in _OURS)
_HAS_IMAGE: Final = exists().where(IMAGES.c.item_id == ITEMS.c.item_id)
_CHANGE: Final = f"SELECT number FROM {CATALOGUE_CHANGES.name}"  # nosec B608
_TEXTS: Final = table("items_text", column("item_id"))
_ROWS: Final = 1_000  # a statement's, and a page's
_ROWS_PER_SECOND: Final = 500  # slower than this, and a bulk write is given up


class SqlCatalogue:
    """Implements `Catalogue`; what must not be shown is known here `refresh_seconds` after any process changed it."""

    def __init__(self, database: Database, refresh_seconds: float = 0.2) -> None:
        """Read what must not be shown; raises `StoreUnavailableError`."""
        self._database = database
        self._change, self._unavailable = database.read(_read_unavailable)
        self._turns = count(1)  # of readings, as they began
        self._turn = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, args=(refresh_seconds,), name="catalogue", daemon=True)
        self._watcher.start()

    def upsert(self, items: Iterable[Item], images: Mapping[str, str] | None = None) -> None:
        """See `Catalogue.upsert`."""
        rows = [_row(item) for item in items]
        self._change_rows(lambda connection: _put(connection, rows, images or {}), len(rows), _ids_of(rows))

    def sync(
        self, items: Iterable[Item], images: Mapping[str, str], version: str, beside: Collection[str] = ()
    ) -> None:
        """See `Catalogue.sync`."""
        if self._database.read(_read_bundle) == version:
            return  # and what was changed by hand since stays so
        rows = [{**_row(item), "bundle_version": version} for item in items]
        other = ITEMS.c.bundle_version.is_not(None) & ITEMS.c.bundle_version.not_in({version, *beside})

        def write(connection: Connection) -> None:
            again.clear()
            _put(connection, rows, images)
            connection.execute(update(ITEMS).where(other).values(available=False))
            connection.execute(update(CATALOGUE_CHANGES).values(bundle_version=version))
            changed = connection.execute(select(ITEMS.c.item_id).where(ITEMS.c.changed > 0)).scalars()
            again.extend(sorted(brought.intersection(changed)))  # of a gateway that reads them before we are done

        again: list[str] = []
        brought = {row["item_id"] for row in rows}
        self._change_rows(write, len(rows), again)

    def restore(self, items: Iterable[StoredItem]) -> None:
        """See `Catalogue.restore`."""
        kept = list(items)
        rows = [{**_row(one.item), "hidden": one.hidden} for one in kept]
        images = {one.item.item_id: one.image for one in kept if one.image is not None}
        self._change_rows(lambda connection: _put(connection, rows, images), len(rows), _ids_of(rows))

    def get(self, item_id: str) -> Item:
        """See `Catalogue.get`."""
        found = self.many([item_id]).get(item_id)
        if found is None:
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue")
        return found

    def many(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """See `Catalogue.many`."""
        wanted = [one for one in dict.fromkeys(item_ids) if "\x00" not in one]
        found: dict[str, Item] = {}
        for start in range(0, len(wanted), _ROWS):
            some = wanted[start : start + _ROWS]
            found |= {item.item_id: item for item in self._items(_SHOWN_ITEMS.where(ITEMS.c.item_id.in_(some)))}
        return found

    def stored(self, item_id: str) -> StoredItem:
        """See `Catalogue.stored`."""
        rows = self._rows(_STORED_ITEMS.where(ITEMS.c.item_id == item_id)) if "\x00" not in item_id else ()
        if not rows:
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue")
        return _stored(rows[0])

    def search(
        self,
        text: str = "",
        *,
        category: str | None = None,
        available: bool | None = True,
        wanted: ItemFilter = ANY_ITEM,
        limit: int = 20,
    ) -> list[Item]:
        """See `Catalogue.search`."""
        if any("\x00" in one for one in (text, category or "", *wanted.categories, *wanted.brands)):
            return []
        query = _SHOWN_ITEMS
        if text:
            query = query.where(self._holds(text))
        if category is not None:
            query = query.where(self._in_category(category))
        if available is not None:
            query = query.where(IS_SHOWN if available else not_(IS_SHOWN))
        order = (TITLE_START, func.lower(ITEMS.c.title), ITEMS.c.item_id)
        return self._items(query.where(*self._conditions(wanted)).order_by(*order).limit(limit))

    def find(self, text: str, wanted: ItemFilter = ANY_ITEM, limit: int = 100) -> list[Item]:
        """See `Catalogue.find`."""
        dialect = self._database.engine.dialect.name
        asked = matching(dialect, text)
        if asked is None or any("\x00" in name for name in (*wanted.categories, *wanted.brands)):
            return []
        query = _SHOWN_ITEMS.join_from(ITEMS, _TEXTS, _TEXTS.c.item_id == ITEMS.c.item_id).where(asked[0], IS_SHOWN)
        return self._items(query.where(*self._conditions(wanted)).order_by(asked[1], ITEMS.c.item_id).limit(limit))

    def _conditions(self, wanted: ItemFilter) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if wanted.categories:
            conditions.append(or_(*(self._in_category(one) for one in wanted.categories)))
        if wanted.brands:
            conditions.append(ITEMS.c.brand.in_(wanted.brands))
        if wanted.min_price is not None:
            conditions.append(ITEMS.c.price >= wanted.min_price)
        if wanted.max_price is not None:
            conditions.append(ITEMS.c.price <= wanted.max_price)
        return conditions

    def image(self, item_id: str) -> str | None:
        """See `Catalogue.image`."""
        self.get(item_id)
        query = select(IMAGES.c.svg).where(IMAGES.c.item_id == item_id)
        return self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())

    def set_hidden(self, item_id: str, hidden: bool) -> None:
        """See `Catalogue.set_hidden`."""
        self.get(item_id)
        statement = update(ITEMS).where(ITEMS.c.item_id == item_id).values(hidden=hidden)
        self._change_rows(lambda connection: connection.execute(statement), 1)

    def delete(self, item_ids: Iterable[str]) -> int:
        """See `Catalogue.delete`."""
        wanted = [one for one in dict.fromkeys(item_ids) if "\x00" not in one]
        counts: list[int] = []

        def write(connection: Connection) -> None:
            counts.clear()
            for start in range(0, len(wanted), _ROWS):
                some = wanted[start : start + _ROWS]
                of_bundle = select(ITEMS.c.item_id).where(
                    ITEMS.c.item_id.in_(some), ITEMS.c.bundle_version.is_not(None)
                )
                connection.execute(insert(DELETED_ITEMS).from_select(["item_id"], of_bundle))
                delete_texts(connection, some)
                connection.execute(delete(IMAGES).where(IMAGES.c.item_id.in_(some)))
                counts.append(connection.execute(delete(ITEMS).where(ITEMS.c.item_id.in_(some))).rowcount)

        self._change_rows(write, len(wanted))
        return sum(counts)

    def export(self, after: str = "") -> Iterator[StoredItem]:
        """See `Catalogue.export`; each page is a transaction of its own."""
        query = _STORED_ITEMS.order_by(ITEMS.c.item_id).limit(_ROWS)
        page: Sequence[Row[Any]] = self._rows(query.where(ITEMS.c.item_id > after) if after else query)
        while page:
            for row in page:
                yield _stored(row)
            page = self._rows(query.where(ITEMS.c.item_id > page[-1][0]))

    def change(self) -> int:
        """See `Catalogue.change`."""
        return self._database.read(_read_change)

    def changed_since(self, number: int) -> Iterator[Item]:
        """See `Catalogue.changed_since`; each page is a transaction of its own."""
        place = tuple_(ITEMS.c.changed, ITEMS.c.item_id)
        query = _SHOWN_ITEMS.add_columns(ITEMS.c.changed).order_by(ITEMS.c.changed, ITEMS.c.item_id).limit(_ROWS)
        page = self._rows(query.where(ITEMS.c.changed > number))
        while page:
            yield from (_item(tuple(row)[:-1]) for row in page)
            page = self._rows(query.where(place > tuple_(page[-1].changed, page[-1].item_id)))

    def unavailable(self) -> frozenset[str]:
        """See `Catalogue.unavailable`; from memory, so that a request never waits for the database."""
        return self._unavailable

    def __len__(self) -> int:
        query = select(func.count()).select_from(ITEMS)
        return int(self._database.read(lambda connection: connection.execute(query).scalar_one()))

    def close(self) -> None:
        """See `Catalogue.close`."""
        self._closing.set()
        self._watcher.join()
        self._database.close()

    def _holds(self, text: str) -> ColumnElement[bool]:
        if self._database.engine.dialect.name == "postgresql":
            return ITEMS.c.title.icontains(text, autoescape=True)  # as trigrams are indexed for it
        return func.instr(func.lower(ITEMS.c.title), func.lower(text)) > 0  # LIKE would refuse a long text

    def _in_category(self, category: str) -> ColumnElement[bool]:
        if self._database.engine.dialect.name == "postgresql":
            contains: ColumnElement[bool] = ITEMS.c.categories.cast(postgresql.JSONB).contains([category])
            return contains
        each = func.json_each(ITEMS.c.categories).table_valued("value")
        return exists().select_from(each).where(each.c.value == category)

    def _items(self, query: Select[Any]) -> list[Item]:
        return [_item(tuple(row)) for row in self._rows(query)]

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._database.read(lambda connection: connection.execute(query).all())

    def _change_rows(self, write: Any, rows: int, by_hand: Sequence[str] = ()) -> None:
        def change(connection: Connection) -> None:
            write(connection)
            connection.execute(update(CATALOGUE_CHANGES).values(number=CATALOGUE_CHANGES.c.number + 1))
            # Behind it: who holds this row is alone until all is written, so that no lower number comes later.
            number = select(CATALOGUE_CHANGES.c.number).scalar_subquery()
            for start in range(0, len(by_hand), _ROWS):
                some = ITEMS.c.item_id.in_(by_hand[start : start + _ROWS])
                connection.execute(update(ITEMS).where(some).values(changed=number))

        self._database.write(change, rows / _ROWS_PER_SECOND)
        self._refresh()

    def _refresh(self) -> None:
        turn = next(self._turns)
        change, unavailable = self._database.read(_read_unavailable)
        with self._lock:
            if turn < self._turn:  # of two readers, the one that began later may come first
                return
            self._turn = turn
            if change != self._change:  # smaller, where a copy from before was put in the database's place
                self._change, self._unavailable = change, unavailable

    def _watch(self, refresh_seconds: float) -> None:
        outage = Outage("which items are hidden", "what was known is kept to")
        while not self._closing.wait(refresh_seconds):
            outage.spared(self._look)

    def _look(self) -> None:
        if self._database.glance(_CHANGE) != self._change:
            self._refresh()


_SHOWN_ITEMS: Final = select(
    *(ITEMS.c[name] if name != "available" else IS_SHOWN.label("available") for name in _FIELDS), _HAS_IMAGE
)


_STORED_ITEMS: Final = select(*(ITEMS.c[name] for name in _FIELDS), ITEMS.c.hidden, IMAGES.c.svg).select_from(
    ITEMS.outerjoin(IMAGES, IMAGES.c.item_id == ITEMS.c.item_id)
)


def _read_change(connection: Connection) -> int:
    return int(connection.execute(select(CATALOGUE_CHANGES.c.number)).scalar_one())


def _read_unavailable(connection: Connection) -> tuple[int, frozenset[str]]:
    """The number is read first: a change that comes between is then read twice, never missed."""
    number = _read_change(connection)
    hidden = select(ITEMS.c.item_id).where(not_(IS_SHOWN))
    return number, frozenset(connection.execute(union_all(hidden, select(DELETED_ITEMS.c.item_id))).scalars())


def _read_bundle(connection: Connection) -> str | None:
    found: str | None = connection.execute(select(CATALOGUE_CHANGES.c.bundle_version)).scalar_one()
    return found


def _row(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _FIELDS} | {"categories": list(item.categories)}


def _ids_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(row["item_id"] for row in rows)


def _stored(row: Row[Any]) -> StoredItem:
    return StoredItem(_item((*row[:-2], row.svg is not None)), row.hidden, row.svg)


def _item(row: tuple[Any, ...]) -> Item:
    values = dict(zip((*_FIELDS, "has_image"), row, strict=True))
    return Item(**{**values, "categories": tuple(values["categories"]), "available": bool(values["available"])})


def _put(connection: Connection, rows: Sequence[dict[str, Any]], images: Mapping[str, str]) -> None:
    """In order of id: two clients that write the same rows wait for each other, and never in a circle."""
    ordered = sorted(rows, key=lambda row: str(row["item_id"]))
    _upsert(connection, ITEMS, ordered)
    for start in range(0, len(ordered), _ROWS):
        some = ordered[start : start + _ROWS]
        put_texts(connection, some)
        connection.execute(delete(DELETED_ITEMS).where(DELETED_ITEMS.c.item_id.in_([row["item_id"] for row in some])))
    _upsert(connection, IMAGES, [{"item_id": one, "svg": svg} for one, svg in sorted(images.items())])


def _upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(table)
    fresh = {name: statement.excluded[name] for name in rows[0] if name != "item_id"}
    statement = statement.on_conflict_do_update(index_elements=["item_id"], set_=fresh)
    waiting = iter(rows)
    while some := list(islice(waiting, _ROWS)):
        connection.execute(statement, some)
