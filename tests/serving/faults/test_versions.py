"""Two versions of the program side by side, and a schema that is brought up to date under traffic."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import create_engine, text

from asterism.core.records import Action
from asterism.stores.event_log import Event
from asterism.stores.sql_database import Database
from asterism.stores.sql_schema import newest_revision, upgrade
from asterism.stores.sql_users import SqlUsers
from asterism.stores.user_state import Visitor
from contracts.postgres_server import Postgres
from serving.faults.load import Line, Load, answered_by_model
from serving.running import ENGINE, PATIENT_MS, STOP_SECONDS, environment, wait_until

#: An engine whose messages are packed in another way than the gateway's, as after an upgrade of one of the two.
OTHER_VERSION = """
from asterism.serving.grpc import descriptions, queries
queries.PACKED_FORMAT = descriptions.PACKED_FORMAT = 99
"""
PATIENT = ("--deadline-ms", PATIENT_MS)
RUN = "from asterism.cli import main; main()"


@contextmanager
def process(code: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """`asterism serve …` with some code before it."""
    command = [sys.executable, "-c", code + RUN, "serve", *arguments]
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment(), text=True) as started,
    ):
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(STOP_SECONDS)
            assert started.stdout is not None
            started.stdout.close()


def test_engines_of_two_versions_serve_one_gateway_through_an_upgrade(
    bundle: Path, tmp_path: Path, note: Callable[[Line], None]
) -> None:
    old, new = (f"unix:{tmp_path / name}.sock" for name in ("old", "new"))
    common = ("--bundle", str(bundle), "--state", str(tmp_path / "state"))
    log = tmp_path / "log.txt"
    with (
        process(OTHER_VERSION, "engine", *common, "--listen", new, "--engine", ENGINE, log=log),
        process(
            "", "gateway", *common, "--port", "0", "--engine-at", old, "--engine-at", new, *PATIENT, log=log
        ) as gateway,
    ):
        assert gateway.stdout is not None
        found = re.search(r"http://\S+", gateway.stdout.readline())
        assert found, log.read_text()
        with httpx.Client(base_url=found[0], timeout=120) as http:
            wait_until(lambda: http.get("/readyz").status_code == 200)
        with Load(f"http://{urlsplit(found[0]).netloc}") as load:
            with process("", "engine", *common, "--listen", old, "--engine", ENGINE, log=log):
                load.wait_whole(time.monotonic(), answered_by_model)
                stopped_at = time.monotonic()
            load.wait_whole(time.monotonic(), answered_by_model)
        line = load.line("an old engine beside a new one, stopped", stopped_at, answered_by_model)
        note(line)
        assert line.errors == 0
        assert {one.source for one in load.outcomes if one.is_read} <= {"model", "stale"}


@pytest.mark.parametrize("from_revision", ["0002", "0004"])
def test_a_schema_is_brought_up_to_date_while_behaviours_are_written(postgres: Postgres, from_revision: str) -> None:
    url = postgres.database(f"from{from_revision}")
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade(connection, url, to=from_revision)
        for number in range(2_000):
            connection.execute(
                text(
                    "INSERT INTO items (item_id, title, categories, kind, available) "
                    "VALUES (:i, :t, '[]', 'product', true)"
                ),
                {"i": f"i{number}", "t": f"Item {number} of the old schema"},
            )
    engine.dispose()
    writers = SqlUsers(
        Database(url, timeout_seconds=60, migrate=False)
    )  # of the version before, which knows no newer step
    written: list[str] = []
    ends = threading.Event()

    def write() -> None:
        for number in range(100_000):
            if ends.is_set():
                return
            event_id = f"e{number}"
            assert writers.record([Event(event_id, "i1", Action.CLICK, number, user_id="ada")]) == [True]
            written.append(event_id)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: len(written) > 20)
        newer = Database(url, timeout_seconds=60)
        assert newer.revision() == newest_revision()
        newer.close()
        after = len(written)
        wait_until(lambda: len(written) > after + 20)
    finally:
        ends.set()
        thread.join(120)
    assert [one.event_id for one in writers.history(Visitor("ada"), 200_000)] == written
    writers.close()
