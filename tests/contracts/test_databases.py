"""Schema, durability and outages of the SQL databases."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from asterism.core.errors import ConfigError, StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.stores.catalogue import Item
from asterism.stores.event_log import Event
from asterism.stores.reaching import Tries
from asterism.stores.sql_catalogue import SqlCatalogue
from asterism.stores.sql_database import Database
from asterism.stores.sql_schema import ONE_AT_A_TIME, newest_revision, revision_of, upgrade
from asterism.stores.sql_tables import METADATA, PARTITIONS
from asterism.stores.sql_users import SqlUsers
from asterism.stores.user_state import Visitor
from contracts.postgres_server import MISSING, POSTGRES, Postgres
from serving.running import wait_until

VEGA = Item("vega", "Vega lamp", categories=("home",))
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> str:
    """An empty database of its own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fresh.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database(prefix)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning")  # SQLite's expressions
def test_every_step_leads_to_the_next_and_the_last_to_the_tables_we_use(fresh_url: str) -> None:
    engine = create_engine(fresh_url)
    assert newest_revision() == REVISIONS[-1]
    for step in REVISIONS:
        with engine.begin() as connection:
            upgrade(connection, fresh_url, to=step)
            assert revision_of(connection) == step
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def _is_ours(thing: object, name: str, kind: str, *_: object) -> bool:
    """What the steps make by hand is no difference: partitions, full text, and indexes over expressions."""
    by_hand = {"table": ("behaviours_", "items_text"), "index": ("items_",)}
    return not (kind in by_hand and name.startswith(by_hand[kind]))


def test_rows_of_the_first_schema_are_still_there_after_the_last(fresh_url: str) -> None:
    engine = create_engine(fresh_url)
    with engine.begin() as connection:
        upgrade(connection, fresh_url, to="0001")
        connection.execute(
            text(
                "INSERT INTO items (item_id, title, categories, kind, available) "
                "VALUES ('old', 'Old', '[]', 'product', true)"
            )
        )
        connection.execute(text("UPDATE catalogue_changes SET number = 5"))
    engine.dispose()
    catalogue = SqlCatalogue(Database(fresh_url))
    assert (catalogue.change(), list(catalogue.changed_since(0))) == (5, [])
    assert catalogue.get("old") == Item("old", "Old")
    assert catalogue.find("old") == [Item("old", "Old")]
    catalogue.close()


def test_a_schema_newer_than_we_know_is_refused(fresh_url: str) -> None:
    Database(fresh_url).close()
    engine = create_engine(fresh_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    engine.dispose()
    with pytest.raises(StorageError, match="schema 0999 is newer than the known 0007; upgrade Asterism"):
        Database(fresh_url)


FIRST_SERVICE = """
    CREATE TABLE items (
        item_id TEXT PRIMARY KEY, title TEXT NOT NULL, description TEXT, categories TEXT NOT NULL,
        brand TEXT, price REAL, kind TEXT NOT NULL, created_at INTEGER,
        available INTEGER NOT NULL, hidden INTEGER NOT NULL DEFAULT 0, bundle_version TEXT
    ) WITHOUT ROWID;
    CREATE TABLE images (item_id TEXT PRIMARY KEY, svg TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX items_by_title ON items (title COLLATE NOCASE);
    INSERT INTO items VALUES
        ('vega', 'Vega 50% lamp', 'A lamp.', '["home", "light"]', 'Lyra', 12.5, 'product', 7, 1, 1, 'v');
    INSERT INTO images VALUES ('vega', '<svg/>');
    PRAGMA user_version = 1;
"""


def test_the_file_of_the_first_service_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SERVICE)
    catalogue = SqlCatalogue(Database(f"sqlite:///{path}"))
    assert (catalogue.unavailable(), catalogue.image("vega")) == ({"vega"}, "<svg/>")
    catalogue.set_hidden("vega", False)
    old = Item("vega", "Vega 50% lamp", "A lamp.", ("home", "light"), "Lyra", 12.5, created_at=7, has_image=True)
    assert catalogue.get("vega") == old
    catalogue.upsert([Item("deneb", "Deneb")])
    assert len(catalogue) == 2
    catalogue.close()


def test_many_processes_that_open_a_new_database_at_once_make_one_schema(postgres: Postgres, prefix: str) -> None:
    url = postgres.database(prefix)
    code = f"from asterism.stores.sql_database import Database; Database({url!r}).close()"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=180)[1] for process in started] == [""] * 2
    assert [process.returncode for process in started] == [0] * 2


def test_a_schema_that_another_process_works_on_is_waited_for_longer_than_a_query(
    postgres: Postgres, prefix: str
) -> None:
    url = postgres.database(prefix)
    worker = create_engine(url)
    with worker.begin() as busy, ThreadPoolExecutor(1) as thread:
        busy.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
        opened = thread.submit(Database, url, timeout_seconds=0.5)
        busy.execute(text("SELECT pg_sleep(2)"))  # as long as two tries of two queries
        busy.rollback()
        database = opened.result(60)
    assert database.revision() == newest_revision()
    timeout = database.read(lambda connection: connection.execute(text("SHOW statement_timeout")).scalar_one())
    assert timeout == "500ms", "of everything else"
    database.close()
    worker.dispose()


def test_behaviours_are_spread_over_partitions_and_a_visitor_is_in_one(postgres: Postgres) -> None:
    users = SqlUsers(Database(postgres.emptied()))
    users.record([Event(f"e{one}", "i", Action.CLICK, one, f"u{one % 100}") for one in range(1000)])
    engine = create_engine(_shared(postgres))
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT visitor, count(DISTINCT tableoid), min(tableoid::int) FROM behaviours GROUP BY visitor")
        ).all()
        plan = "\n".join(connection.execute(text("EXPLAIN SELECT * FROM behaviours WHERE visitor = 'u:u1'")).scalars())
    engine.dispose()
    assert {row[1] for row in rows} == {1}
    assert len({row[2] for row in rows}) >= PARTITIONS - 2
    assert plan.count("behaviours_") <= 2, "other partitions are not even looked at"
    users.close()


def _shared(postgres: Postgres) -> str:
    return f"postgresql+psycopg://asterism@127.0.0.1:{postgres.port}/shared"


def test_search_uses_the_trigrams_and_hiding_its_own_index(postgres: Postgres) -> None:
    catalogue = SqlCatalogue(Database(postgres.emptied()))
    engine = create_engine(_shared(postgres))
    with engine.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))
        plans = [
            "\n".join(connection.execute(text(f"EXPLAIN SELECT item_id FROM items WHERE {where}")).scalars())
            for where in ("title ILIKE '%lamp%'", "categories @> '[\"home\"]'", "NOT (available AND NOT hidden)")
        ]
        names = {one["name"] for one in inspect(connection).get_indexes("items")}
    engine.dispose()
    catalogue.close()
    assert {"items_by_title_part", "items_by_category", "items_not_shown", "items_in_order"} <= names
    for plan, index in zip(plans, ("items_by_title_part", "items_by_category", "items_not_shown"), strict=True):
        assert index in plan


def test_clients_that_write_the_same_rows_in_any_order_do_not_wait_in_a_circle(postgres: Postgres) -> None:
    catalogue = SqlCatalogue(Database(postgres.emptied(), timeout_seconds=60.0, tries=Tries(1)))
    items = [Item(f"i{number}", "x") for number in range(300)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda turn: catalogue.upsert(items if turn % 2 else items[::-1]), range(12)))
    assert len(catalogue) == 300
    catalogue.close()


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that the test may kill."""
    if POSTGRES is None:
        pytest.skip(MISSING)
    server = Postgres()
    yield server
    server.remove()


def test_what_was_acknowledged_survives_kill_9_and_a_dead_server_is_a_sentence_in_time(own_server: Postgres) -> None:
    url = own_server.database("shop").replace("asterism@", "asterism:secret@")
    users = SqlUsers(Database(url, timeout_seconds=10.0, tries=Tries(2)))
    recorded = [Event(f"e{number}", "i", Action.CLICK, number, "ada") for number in range(50)]
    for event in recorded:
        users.record([event])
    own_server.kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"PostgreSQL at .*asterism:\*\*\*@.* cannot be reached .*start it"):
        users.history(Visitor("ada"), 99)
    assert time.monotonic() - began < 60
    own_server.server.start()
    assert users.history(Visitor("ada"), 99) == recorded
    users.close()


def test_a_frozen_server_is_a_sentence_in_time(own_server: Postgres) -> None:
    url = own_server.database("shop")
    patient = SqlUsers(Database(url, timeout_seconds=60.0))
    patient.record([Event("e", "i", Action.CLICK, 1, "ada")])
    patient.close()
    users = SqlUsers(Database(url, timeout_seconds=2.0, tries=Tries(1)))
    wait_until(lambda: _history(users) != [])
    own_server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            users.record([Event("f", "i", Action.CLICK, 2, "ada")])
        assert time.monotonic() - began < 60
    finally:
        own_server.thaw()
    wait_until(lambda: _history(users) != [])
    assert _history(users)[0].event_id == "e"
    users.close()


def _history(users: SqlUsers) -> list[Event]:
    """Of ada; none where the server, which has just been woken, does not answer yet."""
    try:
        return users.history(Visitor("ada"), 9)
    except StoreUnavailableError:
        return []


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(
        StoreUnavailableError, match=r"PostgreSQL at postgresql\+psycopg://a:\*\*\*@127.0.0.1:1/x cannot"
    ):
        Database("postgresql://a:secret@127.0.0.1:1/x", timeout_seconds=1.0, tries=Tries(1))


@pytest.mark.parametrize("url", ["mysql://host/x", "sqlite://", "nonsense"])
def test_a_url_of_another_kind_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite"):
        Database(url)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_text("not a database " * 100)
    with pytest.raises(StorageError, match=r"shop\.db .*not a database"):
        Database(f"sqlite:///{path}")


def test_a_file_that_another_program_locks_is_a_sentence_in_time(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}", timeout_seconds=0.1, tries=Tries(2))
    holder = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        SqlUsers(database).forget("ada", 9)
    holder.close()
    database.close()
