"""The cold history: every event for years, in ClickHouse's SQL, for training data and for figures by day.

One client and one SQL speak to a ClickHouse server (`clickhouse://user:password@host:8123/database`) and to
the same engine inside this process (`chdb:folder`). The engine inside a process owns its folder: one process
writes, and a second one is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.exceptions import OperationalError as Unreachable
from urllib3.exceptions import HTTPError

from asterism.core.errors import StorageError
from asterism.core.records import Action
from asterism.stores.event_log import Event
from asterism.stores.folder_owner import own
from asterism.stores.reaching import Reach, Tries
from asterism.stores.urls import StoreUrl

T = TypeVar("T")

logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # it prints what it raises; we tell it once

_PORT: Final = 8123
_COLUMNS: Final = (
    "user_id",
    "timestamp",
    "event_id",
    "item_id",
    "action",
    "value",
    "session_id",
    "scene",
    "attribution_id",
)
#: Where a log of years is given again, a batch holds more than the hundred that the engine takes by default.
_MANY_MONTHS: Final = {"max_partitions_per_insert_block": 0}
_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS events (
        user_id Nullable(String), visitor String, timestamp Int64, event_id String, item_id String,
        action LowCardinality(String), value Nullable(Float64), session_id Nullable(String),
        scene LowCardinality(Nullable(String)), attribution_id Nullable(String)
    ) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(toDateTime64(timestamp, 0, 'UTC'))
    ORDER BY (visitor, event_id)
    TTL toDateTime(toDateTime64(timestamp, 0, 'UTC')) + toIntervalDay({keep_days})
    """,
    # distinct ids, not counts: a batch that is written twice changes nothing
    """
    CREATE TABLE IF NOT EXISTS daily_items (
        day Date32, item_id String, action LowCardinality(String),
        events AggregateFunction(uniqExact, String), visitors AggregateFunction(uniqExact, String)
    ) ENGINE = AggregatingMergeTree ORDER BY (day, item_id, action)
    """,
    """
    CREATE MATERIALIZED VIEW IF NOT EXISTS daily_items_view TO daily_items AS
    SELECT toDate32(toDateTime64(timestamp, 0, 'UTC')) AS day, item_id, action,
           uniqExactState(event_id) AS events, uniqExactState(visitor) AS visitors
    FROM events GROUP BY day, item_id, action
    """,
)


@dataclass(frozen=True, slots=True)
class ItemDay:
    """What was done with an item on a day, UTC: distinct events, and visitors who did them."""

    day: date
    item_id: str
    action: Action
    events: int
    visitors: int


class ColdHistory:
    """Events by visitor and time, each once however often it is written; for any number of threads."""

    def __init__(
        self,
        url: str,
        *,
        keep_days: int = 730,
        timeout_seconds: float = 30.0,
        tries: Tries | None = None,
        role: str = "program",
    ) -> None:
        """Connect and make the tables; a chDB folder is taken in the name of `role`.

        Raises `ConfigError`, `StoreUnavailableError`, `StorageError`.
        """
        self._url = StoreUrl.parse(url)
        self._url.only()
        self._timeout_seconds = timeout_seconds
        self._reach = Reach(
            "chDB" if self._url.scheme == "chdb" else "ClickHouse",
            self._url.shown,
            (Unreachable, HTTPError, OSError),
            (ClickHouseError,),
            tries or Tries(deadline_seconds=2 * timeout_seconds),
            signs_of_no_room=("NOT_ENOUGH_SPACE", "No space left on device"),
        )
        self._one_at_a_time = threading.Lock()
        self._client: Any = None
        self._own = _own_folder(self._url.path(), role) if self._url.scheme == "chdb" else None
        try:
            for statement in _SCHEMA:
                text = statement.replace("{keep_days}", str(int(keep_days)))
                self._call(lambda client, text=text: client.command(text))  # type: ignore[misc]
        except StorageError:
            self.close()
            raise

    def append(self, events: Sequence[Event]) -> None:
        """Write events in one batch, durable on return; large batches are what ClickHouse is made for."""
        if not events:
            return
        rows = [[_visitor(event), *(getattr(event, name) for name in _COLUMNS)] for event in events]
        names = ["visitor", *_COLUMNS]
        self._call(lambda client: client.insert("events", rows, column_names=names, settings=_MANY_MONTHS))

    def events(self, start: int, end: int, rows: int = 100_000) -> Iterator[pa.Table]:
        """Events with `start` ≤ timestamp < `end` by visitor and time, as Arrow tables of at most so many rows."""
        after = ""
        while (last := self._last_visitor_of_page(after, start, end, rows)) is not None:
            # The names are those of our own columns, the values are bound.
            page = self._query(
                f"SELECT {', '.join(_COLUMNS)} FROM events FINAL "  # nosec B608
                "WHERE visitor > {after:String} AND visitor <= {last:String} "
                "AND timestamp >= {start:Int64} AND timestamp < {end:Int64} ORDER BY visitor, timestamp, event_id",
                {"after": after, "last": last, "start": start, "end": end},
            )
            for first in range(0, page.num_rows, rows):
                yield page.slice(first, rows)
            after = last

    def _last_visitor_of_page(self, after: str, start: int, end: int, rows: int) -> str | None:
        """Whose events end a page of about so many rows; a visitor's events are of one page."""
        counts = self._query(
            "SELECT visitor, count() AS events FROM events WHERE visitor > {after:String} "
            "AND timestamp >= {start:Int64} AND timestamp < {end:Int64} "
            "GROUP BY visitor ORDER BY visitor LIMIT {rows:UInt32}",
            {"after": after, "start": start, "end": end, "rows": rows},
        )
        last, total = None, 0
        for visitor, events in zip(counts["visitor"].to_pylist(), counts["events"].to_pylist(), strict=True):
            total += events
            if last is not None and total > rows:
                break
            last = visitor
        return last

    def daily(self, first: date, last: date) -> list[ItemDay]:
        """What was done with each item on each day from the first to the last, both included, by day and item."""
        table = self._query(
            "SELECT day, item_id, action, uniqExactMerge(events) AS events, uniqExactMerge(visitors) AS visitors "
            "FROM daily_items WHERE day BETWEEN {first:Date32} AND {last:Date32} "
            "GROUP BY day, item_id, action ORDER BY day, item_id, action",
            {"first": first, "last": last},
        )
        return [ItemDay(**{**row, "action": Action(row["action"])}) for row in table.to_pylist()]

    def forget(self, user_id: str) -> None:
        """Delete a user's events; figures by day, which name nobody, stay.

        The parts that held them are written anew; the old ones leave the disk after the engine's `old_parts_lifetime`
        (8 minutes by default). The user is asked for by a hash, as the engine keeps the command.
        """
        digest = hashlib.sha256(f"u:{user_id}".encode("utf-8", "surrogatepass")).hexdigest()
        self._call(
            lambda client: client.command(
                "ALTER TABLE events DELETE WHERE SHA256(visitor) = unhex({digest:String}) SETTINGS mutations_sync = 2",
                {"digest": digest},
            )
        )

    def echo(self, value: str) -> str:
        """The value, after a table of its own held it."""
        table = f"asterism_echo_{secrets.token_hex(8)}"

        def write_and_read(client: Any) -> str:
            client.command(f"CREATE TABLE {table} (value String) ENGINE = MergeTree ORDER BY value")
            try:
                client.insert(table, [[value]], column_names=["value"])
                return str(client.query(f"SELECT value FROM {table}").first_row[0])  # nosec B608
            finally:
                client.command(f"DROP TABLE {table}")

        return self._call(write_and_read)

    def version(self) -> str:
        """The engine's version."""
        return str(self._call(lambda client: client.command("SELECT version()")))

    def __len__(self) -> int:
        return int(self._call(lambda client: client.command("SELECT count() FROM events FINAL")))

    def close(self) -> None:
        """Let go of the connection, or of the folder."""
        if self._client is not None:
            self._client.close()
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _query(self, query: str, values: dict[str, Any]) -> pa.Table:
        return self._call(lambda client: client.query_arrow(query, parameters=values, use_strings=True))

    def _call(self, action: Callable[[Any], T]) -> T:
        def ask() -> T:
            with self._one_at_a_time if self._own is not None else contextlib.nullcontext():
                return action(self._connected())

        return self._reach.call(ask)

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        if self._own is not None:
            return clickhouse_connect.get_client(interface="chdb", path=str(self._url.path()))
        host, port = self._url.address(_PORT)
        user, password = self._url.login()
        place = self._url.rest.rpartition("@")[2]
        return clickhouse_connect.get_client(
            host=host,
            port=port,
            username=user or "default",
            password=password,
            database=place.partition("/")[2] or "default",
            connect_timeout=max(1, round(min(self._timeout_seconds, 5.0))),
            send_receive_timeout=max(1, round(self._timeout_seconds)),
            query_retries=0,  # `Reach` tries again, and knows when to stop
            autogenerate_session_id=False,  # a session would let one query run at a time
            client_name="asterism",
        )


def _own_folder(folder: Path, role: str) -> int:
    """A lock on the folder; raises `StorageError` where another process has it."""
    try:
        return own(folder, role)
    except BlockingIOError:
        raise StorageError(
            f"{folder} is in use by another process, and chDB serves one; stop that one, or use clickhouse://"
        ) from None


def _visitor(event: Event) -> str:
    return f"u:{event.user_id}" if event.user_id is not None else f"s:{event.session_id}"


def event_rows(table: pa.Table) -> list[Event]:
    """The events of an Arrow table."""
    rows = cast(list[dict[str, Any]], table.to_pylist())
    return [Event(**{**row, "action": Action(row["action"])}) for row in rows]
