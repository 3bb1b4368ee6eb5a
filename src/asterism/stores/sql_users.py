"""Users and their behaviours in an SQL database; PostgreSQL spreads the behaviours over hash partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from asterism.core.errors import UnknownIdError
from asterism.core.records import Action
from asterism.stores.event_log import Event
from asterism.stores.sql_database import Database
from asterism.stores.sql_tables import BEHAVIOURS, FORGOTTEN_USER_CHANGES, FORGOTTEN_USERS, USERS
from asterism.stores.user_state import Visitor, key_of
from asterism.stores.users import NOBODY_YET, Forgotten, User, digest_of

_ROWS: Final = 1_000
_ROWS_PER_SECOND: Final = 500
_CHANGE: Final = f"SELECT number FROM {FORGOTTEN_USER_CHANGES.name}"  # nosec B608


class SqlUsers:
    """Implements `Users`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert: Any = postgresql.insert if database.engine.dialect.name == "postgresql" else sqlite.insert

    def upsert(self, users: Iterable[User]) -> None:
        """See `Users.upsert`."""
        rows = [{"user_id": one.user_id, "attributes": dict(one.attributes)} for one in users]
        rows.sort(key=lambda row: str(row["user_id"]))
        statement = self._insert(USERS)
        statement = statement.on_conflict_do_update(
            index_elements=["user_id"], set_={"attributes": statement.excluded.attributes}
        )

        def write(connection: Connection) -> None:
            waiting = iter(rows)
            while some := list(islice(waiting, _ROWS)):
                connection.execute(statement, some)

        self._database.write(write, len(rows) / _ROWS_PER_SECOND)

    def get(self, user_id: str) -> User:
        """See `Users.get`."""
        query = select(USERS.c.attributes).where(USERS.c.user_id == user_id)
        row = None
        if "\x00" not in user_id:
            row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise UnknownIdError(f"user {user_id!r} is not known")
        return User(user_id, row[0])

    def forget(self, user_id: str, at: int) -> bool:
        """See `Users.forget`."""

        def write(connection: Connection) -> bool:
            found = self._delete_behaviours(connection, user_id)
            if "\x00" not in user_id:
                found += connection.execute(delete(USERS).where(USERS.c.user_id == user_id)).rowcount
            self._keep_digest(connection, user_id, at)
            return found > 0

        return self._scrubbed(self._database.write(write))

    def forget_behaviours(self, user_id: str) -> bool:
        """See `Users.forget_behaviours`."""
        return self._scrubbed(self._database.write(lambda connection: self._delete_behaviours(connection, user_id) > 0))

    def forgotten(self, after: int = NOBODY_YET) -> Forgotten:
        """See `Users.forgotten`; where there is nobody new, that is one number to read."""
        if self._database.glance(_CHANGE) == after:
            return Forgotten({}, after)

        def read(connection: Connection) -> Forgotten:
            now = connection.execute(select(FORGOTTEN_USER_CHANGES.c.number)).scalar_one()
            query = select(FORGOTTEN_USERS.c.digest, FORGOTTEN_USERS.c.at)
            fresh = query.where(FORGOTTEN_USERS.c.change > after, FORGOTTEN_USERS.c.change <= now)
            return Forgotten({digest: at for digest, at in connection.execute(fresh)}, now)

        return self._database.read(read)

    def export(self, after: str = "") -> Iterator[User]:
        """See `Users.export`; each page is a transaction of its own."""
        query = select(USERS.c.user_id, USERS.c.attributes).order_by(USERS.c.user_id).limit(_ROWS)
        page = self._page(query.where(USERS.c.user_id > after) if after else query)
        while page:
            yield from page
            page = self._page(query.where(USERS.c.user_id > page[-1].user_id))

    def record(self, events: Sequence[Event]) -> list[bool]:
        """See `Users.record`."""
        rows = {(row["visitor"], row["event_id"]): row for row in reversed([_row(event) for event in events])}
        ordered = [rows[key] for key in sorted(rows)]
        statement = self._insert(BEHAVIOURS).on_conflict_do_nothing()
        statement = statement.returning(BEHAVIOURS.c.visitor, BEHAVIOURS.c.event_id)

        def write(connection: Connection) -> set[tuple[str, str]]:
            written: set[tuple[str, str]] = set()
            for start in range(0, len(ordered), _ROWS):
                some = ordered[start : start + _ROWS]
                written.update((row[0], row[1]) for row in connection.execute(statement, some))
            return written

        fresh = self._database.write(write, len(rows) / _ROWS_PER_SECOND) if rows else set()
        return [_take((_name(_visitor(event)), event.event_id), fresh) for event in events]

    def history(self, visitor: Visitor, count: int) -> list[Event]:
        """See `Users.history`."""
        query = (
            select(BEHAVIOURS)
            .where(BEHAVIOURS.c.visitor == _name(key_of(visitor)))
            .order_by(BEHAVIOURS.c.timestamp.desc(), BEHAVIOURS.c.event_id.desc())
            .limit(count)
        )
        if "\x00" in _name(key_of(visitor)):  # PostgreSQL keeps none
            return []
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [_event(dict(row)) for row in reversed(rows)]

    def __len__(self) -> int:
        query = select(func.count()).select_from(USERS)
        return int(self._database.read(lambda connection: connection.execute(query).scalar_one()))

    def close(self) -> None:
        """See `Users.close`."""
        self._database.close()

    def _keep_digest(self, connection: Connection, user_id: str, at: int) -> None:
        """The counter's row is locked until the transaction ends: who sees a number sees all changes below it."""
        counted = update(FORGOTTEN_USER_CHANGES).values(number=FORGOTTEN_USER_CHANGES.c.number + 1)
        number = connection.execute(counted.returning(FORGOTTEN_USER_CHANGES.c.number)).scalar_one()
        kept = self._insert(FORGOTTEN_USERS).values(digest=digest_of(user_id), at=at, change=number)
        newer = {"at": kept.excluded.at, "change": kept.excluded.change}
        connection.execute(kept.on_conflict_do_update(index_elements=["digest"], set_=newer))

    def _delete_behaviours(self, connection: Connection, user_id: str) -> int:
        if "\x00" in user_id:  # PostgreSQL keeps none
            return 0
        return connection.execute(delete(BEHAVIOURS).where(BEHAVIOURS.c.visitor == _name(Visitor(user_id)))).rowcount

    def _scrubbed(self, found: bool) -> bool:
        self._database.scrub()
        return found

    def _page(self, query: Select[Any]) -> list[User]:
        return self._database.read(lambda connection: [User(*row) for row in connection.execute(query)])


def _take(key: tuple[str, str], fresh: set[tuple[str, str]]) -> bool:
    """Whether the key is new; of several in one call, the first is."""
    is_new = key in fresh
    fresh.discard(key)
    return is_new


def _visitor(event: Event) -> Visitor:
    return key_of(Visitor(event.user_id, event.session_id))


def _name(visitor: Visitor) -> str:
    return f"u:{visitor.user_id}" if visitor.user_id is not None else f"s:{visitor.session_id}"


def _row(event: Event) -> dict[str, Any]:
    return {
        "visitor": _name(_visitor(event)),
        "event_id": event.event_id,
        "item_id": event.item_id,
        "action": event.action.value,
        "timestamp": event.timestamp,
        "session_id": event.session_id,
        "value": event.value,
        "scene": event.scene,
        "attribution_id": event.attribution_id,
    }


def _event(row: dict[str, Any]) -> Event:
    kind, _, name = row.pop("visitor").partition(":")
    return Event(**{**row, "action": Action(row["action"]), "user_id": name if kind == "u" else None})
