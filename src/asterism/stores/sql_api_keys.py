"""API keys in an SQL database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, insert, or_, select, update

from asterism.stores.api_keys import ApiKey, Changes, unknown
from asterism.stores.sql_database import Database
from asterism.stores.sql_tables import API_KEY_CHANGES, API_KEYS

_CHANGE: Final = f"SELECT number FROM {API_KEY_CHANGES.name}"  # nosec B608


class SqlApiKeys:
    """Implements `ApiKeys`; a change takes its number in its own transaction, so numbers are seen in their order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: ApiKey) -> None:
        """See `ApiKeys.add`."""
        row = {
            "key_id": key.key_id,
            "name": key.name,
            "scopes": sorted(key.scopes),
            "digest": key.digest.hex(),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
            "last_used_at": key.last_used_at,
        }

        def write(connection: Connection) -> None:
            known = select(API_KEYS.c.digest).where(API_KEYS.c.key_id == key.key_id)
            if connection.execute(known).scalar_one_or_none() != row["digest"]:  # else this is another try
                connection.execute(insert(API_KEYS).values(**row, change=_next_number(connection)))

        self._database.write(write)

    def revoke(self, key_id: str, at_seconds: int) -> None:
        """See `ApiKeys.revoke`."""
        self._change(key_id, API_KEYS.c.revoked_at.is_(None), {"revoked_at": at_seconds})

    def expire(self, key_id: str, at_seconds: int) -> None:
        """See `ApiKeys.expire`."""
        ends_later = or_(API_KEYS.c.expires_at.is_(None), API_KEYS.c.expires_at > at_seconds)
        self._change(key_id, ends_later, {"expires_at": at_seconds})

    def note_used(self, hours: Mapping[str, int]) -> None:
        """See `ApiKeys.note_used`."""

        def write(connection: Connection) -> None:
            for key_id, hour in sorted(hours.items()):
                is_later = or_(API_KEYS.c.last_used_at.is_(None), API_KEYS.c.last_used_at < hour)
                statement = update(API_KEYS).where(API_KEYS.c.key_id == key_id, is_later)
                connection.execute(statement.values(last_used_at=hour))

        self._database.write(write)

    def all(self) -> list[ApiKey]:
        """See `ApiKeys.all`."""
        query = select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.key_id)
        return self._database.read(lambda connection: _keys(connection, query))

    def changes_after(self, number: int) -> Changes:
        """See `ApiKeys.changes_after`."""

        if self._database.glance(_CHANGE) == number:
            return Changes((), number)

        def read(connection: Connection) -> Changes:
            now = connection.execute(select(API_KEY_CHANGES.c.number)).scalar_one()
            fresh = select(API_KEYS).where(API_KEYS.c.change > number, API_KEYS.c.change <= now)
            return Changes(_keys(connection, fresh), now)

        return self._database.read(read)

    def close(self) -> None:
        """See `ApiKeys.close`."""
        self._database.close()

    def _change(self, key_id: str, still: Any, values: dict[str, int]) -> None:
        def write(connection: Connection) -> None:
            changed = update(API_KEYS).where(API_KEYS.c.key_id == key_id, still)
            connection.execute(changed.values(**values, change=_next_number(connection)))
            if connection.execute(select(API_KEYS.c.key_id).where(API_KEYS.c.key_id == key_id)).one_or_none() is None:
                raise unknown(key_id)

        if "\x00" in key_id:
            raise unknown(key_id)
        self._database.write(write)


def _next_number(connection: Connection) -> int:
    """The row is locked until the transaction ends: who sees a number sees all changes below it."""
    counted = update(API_KEY_CHANGES).values(number=API_KEY_CHANGES.c.number + 1)
    return int(connection.execute(counted.returning(API_KEY_CHANGES.c.number)).scalar_one())


def _keys(connection: Connection, query: Select[Any]) -> list[ApiKey]:
    return [_key(row) for row in connection.execute(query)]


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        name=row.name,
        scopes=frozenset(row.scopes),
        digest=bytes.fromhex(row.digest),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
