"""The worker's groups on embedded stores: apart from each other, told by their attributes, and killed."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.errors import ConfigError, MissingDependencyError, StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.group import Group, GroupState
from asterism.serving.worker.running import open_worker
from asterism.serving.worker.settings import WorkerSettings
from asterism.stores.event_log import Event, LocalEventLog
from asterism.stores.local_bus import LocalConsumer, LocalEventBus, buried
from asterism.stores.opening import open_users
from asterism.stores.user_state import Visitor
from serving.running import environment, wait_until


def event(number: int, user: int = 0) -> Event:
    return Event(f"e{number}", f"i{number}", Action.CLICK, timestamp=number, user_id=f"u{user}")


@pytest.fixture
def bus(tmp_path: Path) -> LocalEventBus:
    return LocalEventBus(LocalEventLog(tmp_path / "events"), tmp_path / "events")


class Keeper:
    """Implements `Handler` by a list; fails as it is told."""

    has_more = False

    def __init__(self, taken: list[str], failures: list[Exception]) -> None:
        self.taken = taken
        self.failures = failures

    def __call__(self, batch: Sequence[Arrival]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken += [one.event.event_id for one in batch]

    def forget(self, user_id: str) -> None:
        self.taken.append(f"forget {user_id}")

    def close(self) -> None:
        self.failures.clear()


def group(tmp_path: Path, opener: Callable[[], Keeper], name: str = "g", batch: int = 3) -> Group:
    return Group(name, lambda: LocalConsumer(tmp_path / "events", name), opener, batch=batch, poll_seconds=0.01)


def test_a_group_whose_store_is_down_waits_and_the_other_goes_on(
    bus: LocalEventBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here: list[str] = []
    there: list[str] = []
    refused: list[None] = []  # the store cannot even be opened at first
    is_down = threading.Event()
    is_down.set()

    class Downable(Keeper):
        def __call__(self, batch: Sequence[Arrival]) -> None:
            if is_down.is_set():
                raise StoreUnavailableError("PostgreSQL is down")
            super().__call__(batch)

    def open_store() -> Keeper:
        if not refused:
            refused.append(None)
            raise StoreUnavailableError("PostgreSQL is down")
        return Downable(there, [])

    well, ill = group(tmp_path, lambda: Keeper(here, []), "well"), group(tmp_path, open_store, "ill")
    with caplog.at_level(logging.WARNING):
        for one in (well, ill):
            one.start()
        bus.publish([event(number) for number in range(7)]).result(30)
        wait_until(lambda: well.handled == 7 and well.lag == 0 and ill.failures >= 3)
        assert (ill.state, ill.last_error, ill.handled) == (GroupState.PAUSED, "PostgreSQL is down", 0)
        assert well.state == GroupState.RUNNING
        is_down.clear()
        wait_until(lambda: ill.handled == 7)
    assert here == there == [f"e{number}" for number in range(7)]
    assert (ill.state, ill.failures, ill.last_error) == (GroupState.RUNNING, 0, None)
    told = [one.getMessage() for one in caplog.records]
    assert told == ["worker group ill waits, and tries again: PostgreSQL is down", "worker group ill goes on"]
    for one in (well, ill):
        one.stop()
        assert one.join(30)
    assert well.state == GroupState.STOPPED
    bus.close()


def test_a_group_that_stops_has_committed(bus: LocalEventBus, tmp_path: Path) -> None:
    taken: list[str] = []
    for turn in range(2):
        bus.publish([event(10 * turn + number) for number in range(4)]).result(30)
        member = group(tmp_path, lambda: Keeper(taken, []))
        member.start()
        wait_until(lambda: len(taken) == 4 * (turn + 1))  # noqa: B023
        member.stop()
        assert member.join(30)
    assert max(Counter(taken).values()) == 1
    bus.close()


def test_what_came_while_a_group_gathered_is_dealt_with_before_it_ends(bus: LocalEventBus, tmp_path: Path) -> None:
    taken: list[str] = []
    one = Group(
        "g",
        lambda: LocalConsumer(tmp_path / "events", "g"),
        lambda: Keeper(taken, []),
        batch=3,
        poll_seconds=0.01,
        gather_seconds=60.0,
    )
    bus.publish([event(1)]).result(30)
    one.start()
    wait_until(lambda: one.handled == 1)
    bus.publish([event(2)]).result(30)
    one.stop()
    assert one.join(30)
    assert taken == ["e1", "e2"]
    assert one.handled == 2


def test_a_group_gathers_longer_where_many_events_come(bus: LocalEventBus, tmp_path: Path) -> None:
    waited: list[float | None] = []

    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return super().wait(0)

    one = Group(
        "g",
        lambda: LocalConsumer(tmp_path / "events", "g"),
        lambda: Keeper([], []),
        poll_seconds=0.01,
        gather_seconds=0.05,
        longest_gather_seconds=0.2,
    )
    one._stop = Noting()
    one.start()
    for number, events in enumerate((1, 4, 8, 100)):
        bus.publish([event(1000 * number + place) for place in range(events)]).result(30)
        wait_until(lambda: len(waited) == number + 1)  # noqa: B023
    one.stop()
    assert one.join(30)
    assert waited == [0.05, 0.05, 0.1, 0.2]
    bus.close()


def test_what_waits_is_told(bus: LocalEventBus, tmp_path: Path) -> None:
    bus.publish([event(number) for number in range(10)]).result(30)
    bus.publish([event(number) for number in range(10, 17)]).result(30)
    go_on = threading.Event()
    entered = threading.Event()

    class Slow(Keeper):
        def __call__(self, batch: Sequence[Arrival]) -> None:
            entered.set()
            go_on.wait(120)

    member = group(tmp_path, lambda: Slow([], []))
    member.start()
    assert entered.wait(30)
    assert member.lag == 17
    go_on.set()
    wait_until(lambda: member.lag == 0)
    member.stop()
    member.join(30)
    bus.close()


def test_a_missing_package_turns_one_group_off(tmp_path: Path, bus: LocalEventBus) -> None:
    def opener() -> Keeper:
        raise MissingDependencyError("chdb is not installed")

    member = group(tmp_path, opener)
    member.start()
    assert member.join(30)
    assert (member.state, member.last_error) == (GroupState.OFF, "chdb is not installed")
    bus.close()


def test_a_full_disk_keeps_the_batch(bus: LocalEventBus, tmp_path: Path) -> None:
    taken: list[str] = []
    opened: list[Keeper] = []

    def opener() -> Keeper:
        opened.append(Keeper(taken, [StorageError("full")] * 8))  # the batch, and each by itself, twice
        return opened[-1]

    member = group(tmp_path, opener)
    bus.publish([event(number) for number in range(3)]).result(30)
    member.start()
    wait_until(lambda: member.handled == 3)
    assert (taken, len(opened), buried(tmp_path / "events", "g")) == (["e0", "e1", "e2"], 1, [])
    member.stop()
    member.join(30)
    bus.close()


def test_a_group_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no group 'histories'; known here: behaviours, history, state, nearline"):
        open_worker(WorkerSettings(tmp_path, tmp_path, groups=("histories",)))


_WORK = """
import sys, threading
from pathlib import Path
from asterism.serving.worker.running import run_worker
from asterism.serving.worker.settings import WorkerSettings
run_worker(WorkerSettings(Path(sys.argv[2]), Path(sys.argv[1]), groups=("behaviours", "history")), threading.Event())
"""
_READ = """
import sys
from asterism.stores.opening import open_history
for table in open_history(sys.argv[1]).events(0, 1 << 60):
    print(*table.column("event_id").to_pylist())
"""


def committed(folder: Path, name: str) -> int:
    """How many events a group has dealt with."""
    file = folder / "events" / "groups" / f"{name}.json"
    return int(json.loads(file.read_text())[-1]) if file.exists() else 0


def test_kill_9_of_the_worker_loses_nothing_and_counts_nothing_twice(
    bus: LocalEventBus, bundle: Path, tmp_path: Path
) -> None:
    now = int(time.time())  # the cold history drops what is years old
    events = [replace(event(number, number % 5), timestamp=now + number) for number in range(3_000)]
    for start in range(0, 3_000, 50):
        bus.publish(events[start : start + 50]).result(30)
    for least in (1, 3_000):  # killed while both groups are amid their work, and at its end
        worker = subprocess.Popen([sys.executable, "-c", _WORK, str(tmp_path), str(bundle)], env=environment())
        wait_until(lambda: all(committed(tmp_path, one) >= least for one in ("behaviours", "history")))  # noqa: B023
        worker.send_signal(signal.SIGKILL)
        worker.wait(60)
    deployment = WorkerSettings(bundle, tmp_path).deployment
    users = open_users(deployment.catalogue)
    for user in range(5):
        assert users.history(Visitor(f"u{user}"), 9_000) == events[user::5]
    users.close()
    command = [sys.executable, "-c", _READ, deployment.history]
    cold = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert sorted(cold.stdout.split()) == sorted(one.event_id for one in events), cold.stderr
    bus.close()


def test_a_group_does_not_wait_while_its_handler_has_more(bus: LocalEventBus, tmp_path: Path) -> None:
    class Slow(Keeper):
        """Deals with one at a time."""

        def __init__(self) -> None:
            super().__init__([], [])
            self.left: list[str] = []

        @property
        def has_more(self) -> bool:  # type: ignore[override]
            return bool(self.left)

        def __call__(self, batch: Sequence[Arrival]) -> None:
            self.left += [one.event.event_id for one in batch]
            self.taken.append(self.left.pop(0))

    handler = Slow()
    bus.publish([event(number) for number in range(5)]).result(30)
    where = tmp_path / "events"
    group = Group("slow", lambda: LocalConsumer(where, "slow"), lambda: handler, gather_seconds=600.0, batch=100)
    group.start()
    wait_until(lambda: len(handler.taken) == 5)
    group.stop()
    assert group.join(30)
    bus.close()
