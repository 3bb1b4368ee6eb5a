"""Brings a database's schema up to date, one named step after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from asterism.core.errors import StorageError

_STEPS: Final = ScriptDirectory(str(Path(__file__).parent / "migrations"))
#: The lock under which a schema is worked on: any number that all of our processes share.
ONE_AT_A_TIME: Final = 0x61737465


def newest_revision() -> str:
    """The revision that this version of Asterism works with."""
    return str(_STEPS.get_current_head())


def revision_of(connection: Connection) -> str | None:
    """The revision of a database, or None where it has no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, where: str, to: str = "head") -> None:
    """Run the steps that are missing, in the connection's transaction; of many processes, one does it.

    Raises `StorageError` where the schema is newer than this version of Asterism.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})

    def missing(current: Any, context: MigrationContext) -> Any:
        return _STEPS._upgrade_revs(to, current)

    context = MigrationContext.configure(connection, opts={"fn": missing, "script": _STEPS})
    try:
        with Operations.context(context):
            context.run_migrations()
    except CommandError as error:
        raise StorageError(
            f"{where}: schema {context.get_current_revision()} is newer than the known {newest_revision()}; "
            "upgrade Asterism"
        ) from error
