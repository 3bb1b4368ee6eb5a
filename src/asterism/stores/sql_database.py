"""One way to an SQL database: a pool, a transaction a call, and a deadline that also holds for a frozen server."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import DataError as ValueRefused
from sqlalchemy.exc import TimeoutError as PoolTimeout

from asterism.core.errors import ConfigError, DataError, StorageError
from asterism.stores.reaching import Reach, Tries, full
from asterism.stores.sql_schema import revision_of, upgrade

T = TypeVar("T")

_MIGRATION_SECONDS: Final = 600.0
_NO_ROOM: Final = ("disk is full", "disk I/O error")  # SQLite's words; a server's tell by themselves
_NAMES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Database:
    """A migrated database, for any number of threads and processes."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        pool_size: int = 8,
        tries: Tries | None = None,
        migrate: bool = True,
    ) -> None:
        """Connect and bring the schema up to date; raises `ConfigError`, `StoreUnavailableError`, `StorageError`."""
        parsed = _parse(url)
        self._timeout_seconds = timeout_seconds
        self.name = _NAMES[parsed.get_backend_name()]
        self.where = parsed.render_as_string(hide_password=True)
        self.reach = Reach(
            self.name,
            self.where,
            (OperationalError, InterfaceError, PoolTimeout),
            (SQLAlchemyError,),
            tries or Tries(deadline_seconds=2 * timeout_seconds),
        )
        self.engine = _engine(parsed, timeout_seconds, pool_size)
        if not migrate:
            return
        try:
            self.write(self._upgraded, _MIGRATION_SECONDS)
        except StorageError:
            self.engine.dispose()
            raise

    def revision(self) -> str | None:
        """The revision of the schema as it is, or None where there is none."""
        return self.read(revision_of)

    def version(self) -> str:
        """The server's version."""
        numbers = self.read(lambda connection: connection.dialect.server_version_info) or ()
        return ".".join(map(str, numbers))

    def read(self, action: Callable[[Connection], T]) -> T:
        """Run queries in one transaction, again where the connection broke; raises as `write` does."""
        return self.reach.call(lambda: self._transaction(action, self._timeout_seconds, begin="BEGIN"))

    def glance(self, query: str) -> int:
        """The one number that a query of plain SQL gives, for who looks often; raises as `read` does.

        SQLite is asked past SQLAlchemy's layers, with which it takes nine times as long.
        """
        if self.name == "SQLite":
            with contextlib.suppress(sqlite3.Error, SQLAlchemyError), self._connected() as driver:
                if row := driver.execute(query).fetchone():
                    return int(row[0])
        return self.read(lambda connection: int(connection.exec_driver_sql(query).scalar_one()))

    def write(self, action: Callable[[Connection], T], seconds: float = 0.0) -> T:
        """Change things in one transaction, again where the connection broke; it must bear being run twice.

        Raises `StoreUnavailableError` when it is not done within the timeout and `seconds` more,
        `DataError` where the database does not take a value, `StorageError` where it refuses otherwise.
        """
        allowed = self._timeout_seconds + seconds
        return self.reach.call(lambda: self._transaction(action, allowed, begin="BEGIN IMMEDIATE"))

    def scrub(self) -> None:
        """Overwrite what was deleted where the file still holds it; a server does that in its own time."""
        if self.name == "SQLite":
            with self.engine.connect().execution_options(sqlite_begin="") as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def _upgraded(self, connection: Connection) -> None:
        """Bring the schema up to date; a step over many rows, or a process that is at it, takes longer than a query."""
        if self.name == "PostgreSQL":
            milliseconds = str(int(_MIGRATION_SECONDS * 1000))
            connection.execute(select(func.set_config("statement_timeout", milliseconds, True)))
        upgrade(connection, self.where)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        connection = self.engine.raw_connection()
        try:
            yield connection.driver_connection
        finally:
            connection.close()

    def _transaction(self, action: Callable[[Connection], T], seconds: float, begin: str) -> T:
        try:
            with (
                self.engine.connect().execution_options(sqlite_begin=begin) as connection,
                _cut_after(connection, seconds),
                connection.begin(),
            ):
                return action(connection)
        except (ValueRefused, UnicodeEncodeError, OverflowError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise DataError(f"{self.name} does not take a value ({reason}); correct it") from error
        except IntegrityError as error:
            raise self.reach.refused(error.orig) from error
        except OperationalError as error:
            if self.name == "SQLite" and "locked" not in str(error.orig):  # a full disk is not cured by waiting
                told = full if any(sign in str(error.orig) for sign in _NO_ROOM) else StorageError
                raise told(
                    f"{self.where}: the database cannot be used ({error.orig}); make room on the disk, "
                    "or move the file away"
                ) from error
            raise


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "a catalogue's URL is 'sqlite:///folder/file.db' or 'postgresql+psycopg://user:password@host/name'"
        ) from None
    if parsed.get_backend_name() not in _NAMES:
        raise ConfigError(f"{parsed.drivername!r} is no database that Asterism knows; use sqlite or postgresql+psycopg")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engine(url: URL, timeout_seconds: float, pool_size: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, timeout_seconds, pool_size)
    milliseconds = int(timeout_seconds * 1000)
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=timeout_seconds,
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={
            "connect_timeout": max(1, round(timeout_seconds)),
            "tcp_user_timeout": milliseconds,
            "application_name": "asterism",
            "options": f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout=60000",
        },
    )


def _sqlite_engine(url: URL, timeout_seconds: float, pool_size: int) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("a catalogue on SQLite needs a file; write it like 'sqlite:///folder/catalogue.db'")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{url.database} cannot be made ({error.strerror}); name another place") from error
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=timeout_seconds,
        hide_parameters=True,
        connect_args={"timeout": timeout_seconds},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver would end transactions around schema changes
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what is committed on the bus must not be undone here
        connection.execute("PRAGMA secure_delete = ON")  # who is forgotten is not in a free page either

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options()["sqlite_begin"])

    return engine


@contextlib.contextmanager
def _cut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """Break the connection's socket after so long: a server that is frozen answers no timeout of its own."""
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    with socket.socket(fileno=os.dup(driver.fileno())) as own:
        timer = threading.Timer(seconds, _break, [own])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # it must not use the socket once that is closed


def _break(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
