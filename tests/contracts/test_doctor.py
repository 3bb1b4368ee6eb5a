"""`asterism doctor` on real servers, on broken ones, and on none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asterism.core.bundle import BundleWriter
from asterism.core.clock import ManualClock
from asterism.core.errors import ConfigError, MissingDependencyError
from asterism.core.ids import IdMap
from asterism.core.records import Action
from asterism.stores.catalogue import Item
from asterism.stores.checking import check_stores
from asterism.stores.event_log import Event, Forget, LocalEventLog
from asterism.stores.local_bus import LocalEventBus
from asterism.stores.opening import load, open_blobs, open_bus, open_history, open_hot, open_vectors, open_warm
from asterism.stores.rate_limits import Rate
from asterism.stores.segments import EVERYTHING
from asterism.stores.sql_database import Database
from asterism.stores.sql_schema import newest_revision
from asterism.stores.user_state import RecentEvent, Visitor
from asterism.stores.users import User
from contracts.postgres_server import Postgres
from contracts.servers import ServerProcess


def doctor(
    folder: Path, stores: dict[str, str], *options: str, bundle: str | None = None, timeout_seconds: float = 60.0
) -> tuple[int, str]:
    """The status, and what was said."""
    lines = [f"{name} = '{url}'" for name, url in stores.items()]
    head = [f"bundle = '{bundle}'"] if bundle else []
    (folder / "deployment.toml").write_text(
        "\n".join([*head, "[stores]", f"timeout_seconds = {timeout_seconds}", *lines])
    )
    ended = subprocess.run(
        [sys.executable, "-m", "asterism", "doctor", "--config", "deployment.toml", *options],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=900,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_everything_at_scale_is_well_and_nothing_is_left_behind(
    tmp_path: Path,
    prefix: str,
    postgres: Postgres,
    cluster_url: str,
    kafka_brokers: str,
    clickhouse_url: str,
    milvus: tuple[ServerProcess, int],
    s3_endpoint: str,
) -> None:
    stores = {
        "catalogue": postgres.database(prefix),
        "state": f"{cluster_url}?prefix={prefix}",
        "bus": f"kafka://{kafka_brokers}/{prefix}",
        "history": clickhouse_url,
        "vectors": f"milvus://127.0.0.1:{milvus[1]}/{prefix}",
        "blobs": f"s3://asterism/{prefix}?endpoint={s3_endpoint}",
    }
    status, said = doctor(tmp_path, stores)
    assert (status, "schema is not made yet" in said, "5 of 6 are well" in said) == (1, True, True)
    status, said = doctor(tmp_path, stores, "--migrate")
    assert status == 0, said
    assert "6 of 6 are well" in said
    for part in (
        "PostgreSQL 1",
        f"schema {newest_revision()}",
        "Redis ",
        "3 brokers",
        "engine 2",
        "0 vectors",
        "conditional writes",
    ):
        assert part in said
    hot = open_hot(stores["state"], timeout_seconds=30.0)
    assert len(hot.states) == 0
    hot.close()
    blobs = open_blobs(stores["blobs"])
    assert list(blobs.names()) == []
    blobs.close()
    users = open_warm(stores["catalogue"])
    assert len(users.users) == 0
    users.catalogue.close()


def test_what_is_down_or_changed_is_told_and_the_status_is_1(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    writer.part("model.json").write_text("weights")
    writer.commit({})
    down = {
        "state": "redis://ada:secret@127.0.0.1:1/0",
        "history": "clickhouse://127.0.0.1:1",
        "bus": "kafka://127.0.0.1:1",
    }
    status, said = doctor(tmp_path, down, "--migrate", bundle="bundle", timeout_seconds=10.0)
    assert status == 1
    assert "wrong  state      Redis at redis://ada:***@127.0.0.1:1/0 cannot be reached" in said
    assert "well   bundle     bundle: version" in said
    assert "4 of 7 are well" in said
    assert "secret" not in said
    assert "Traceback" not in said
    (tmp_path / "bundle" / "model.json").write_text("WEIGHTS")
    status, said = doctor(tmp_path, {"history": down["history"]}, bundle="bundle")
    assert (status, "model.json was changed after the bundle was written" in said) == (1, True)


def test_a_local_log_is_well_with_users_forgotten_and_wrong_where_it_is_damaged(tmp_path: Path) -> None:
    log = LocalEventLog(tmp_path / "log")
    for number, user_id in enumerate(("ada", "bob", "bob")):
        log.append([Event(f"e{number}", "mug", Action.CLICK, number, user_id)]).result(60)
    log.forget(Forget("ada", 9)).result(60)
    url = f"local:{tmp_path / 'log'}"
    (found,) = check_stores({"bus": url}, 5.0)
    assert (found.is_well, found.said) == (True, "local log, 2 events read")
    log.settle(EVERYTHING).result(60)
    (found,) = check_stores({"bus": url}, 5.0)
    assert (found.is_well, found.said) == (True, "local log, 2 events read")
    log.close()
    segment = next((tmp_path / "log").glob("*.log"))
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    (found,) = check_stores({"bus": url}, 5.0)
    assert (found.is_well, "the frame at byte 0 is damaged" in found.said) == (False, True)


def test_a_group_that_keeps_the_names_of_forgotten_users_is_told(tmp_path: Path) -> None:
    log, url = LocalEventLog(tmp_path), f"local:{tmp_path}"
    bus = LocalEventBus(log, tmp_path)
    bus.publish([Event(f"e{number}", "mug", Action.CLICK, number, "ada") for number in range(3)]).result(60)
    runs, gone = bus.consumer("runs"), bus.consumer("gone")
    for group in (runs, gone):
        group.poll(2, 0.1)
        group.commit()
    gone.close()
    os.utime(tmp_path / "groups" / "gone.json", (1_700_000_000, 1_700_000_000))
    for user_id in ("ada", "bob"):
        bus.forget(Forget(user_id, 9)).result(60)
    while runs.poll(9, 0.0):
        runs.commit()
    bus.settle().result(60)
    (found,) = check_stores({"bus": url}, 5.0)
    assert found.is_well
    assert "2 forgotten users stay until group 'gone' reads on" in found.said
    assert "committed nothing since 2023-11-14 22:13 UTC" in found.said
    assert "'runs'" not in found.said
    assert b"bob" in b"".join(path.read_bytes() for path in tmp_path.glob("*.log"))
    (tmp_path / "groups" / "gone.lock").unlink()
    bus.settle().result(60)
    assert b"bob" not in b"".join(path.read_bytes() for path in tmp_path.glob("*.log"))
    (found,) = check_stores({"bus": url}, 5.0)
    assert found.said == "local log, 0 events read"
    runs.close()
    bus.close()


def test_every_url_opens_the_store_that_it_names(tmp_path: Path, redis_url: str, prefix: str) -> None:
    warm = open_warm(f"sqlite:///{tmp_path / 'x.db'}")
    warm.catalogue.upsert([Item("a", "A")])
    warm.users.upsert([User("ada")])
    warm.catalogue.close()
    for url in ("memory", f"{redis_url}?prefix={prefix}"):
        hot = open_hot(url, ManualClock(5.0), 30.0)
        assert hot.states.apply(Visitor("ada"), RecentEvent(1, "a", Action.CLICK))
        assert hot.slates.get(Visitor("ada")) is None
        assert hot.limits.take("ada", Rate(1.0, 1)) == 0.0
        hot.close()
    bus = open_bus(f"local:{tmp_path / 'bus'}")
    bus.publish([Event("e", "a", Action.CLICK, 1, "ada")]).result(60)
    bus.close()
    assert len(open_vectors("exact", IdMap("ab"), np.eye(2))) == 2
    assert list(open_blobs(f"file:{tmp_path / 'blobs'}").names()) == []


def test_a_url_of_no_store_and_a_package_that_is_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'ftp://x' is no store that Asterism knows"):
        open_bus("ftp://x")
    monkeypatch.setitem(sys.modules, "asterism.stores.kafka_bus", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'asterism\[kafka\]'"):
        load("kafka_bus", "kafka")


@pytest.mark.parametrize(
    "opened",
    [
        lambda: open_hot("redis://redis:port"),
        lambda: open_hot("redis://redis:6379/shop"),
        lambda: open_hot("rediss://redis:99999"),
        lambda: open_hot("redis+cluster://[::1"),
        lambda: open_warm("postgresql+psycopg://db:port/asterism"),
        lambda: open_bus("kafka://broker:port/feedback"),
        lambda: open_history("clickhouse://host:port"),
        lambda: open_blobs("s3://bucket?endpoint=minio:9000"),
        lambda: open_blobs("s3://bucket?endpoint=http://minio:9000&region=not%20one"),
    ],
)
def test_a_url_that_is_malformed_is_a_sentence(opened: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"(write it|URL is|have numbers)"):
        opened()


def test_looking_does_not_change_a_schema(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", migrate=False)
    assert database.revision() is None
    database.close()
