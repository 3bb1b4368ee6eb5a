"""One conformance suite for every event log, then what is particular to the local one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asterism.core.errors import OverloadedError, StorageError
from asterism.core.records import Action
from asterism.stores.event_log import Event, EventLog, LocalEventLog
from asterism.stores.group_commit import GroupCommit

Opener = Callable[[], EventLog]


def event(number: int, user_id: str = "ada") -> Event:
    return Event(f"e{number}", f"i{number}", Action.CLICK, timestamp=number, user_id=user_id, value=0.5)


@pytest.fixture(params=["local"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the log of one place, again and again."""
    openers: dict[str, Opener] = {"local": lambda: LocalEventLog(tmp_path / "events")}
    return openers[request.param]


def test_appended_events_are_replayed_in_order(opener: Opener) -> None:
    log = opener()
    assert log.append([event(1), event(2)]).result() == [0, 1]
    assert log.append([event(3)]).result() == [2]
    log.close()
    again = opener()
    assert list(again.replay()) == [event(1), event(2), event(3)]
    again.close()


def test_an_event_id_is_taken_once_also_after_reopening(opener: Opener) -> None:
    log = opener()
    assert log.append([event(1), event(1)]).result() == [0, None]
    assert log.append([event(1), event(2)]).result() == [None, 1]
    log.close()
    again = opener()
    assert again.append([event(2), event(3)]).result() == [None, 2]
    assert [one.event_id for one in again.replay()] == ["e1", "e2", "e3"]
    again.close()


def test_an_anonymous_event_and_odd_text_survive(opener: Opener) -> None:
    odd = Event("é\n\u2028\x00", "⭐", Action.DISLIKE, timestamp=0, session_id="s\t1", scene="home")
    log = opener()
    log.append([odd]).result()
    log.close()
    again = opener()
    assert list(again.replay()) == [odd]
    again.close()


def test_many_threads_lose_and_double_nothing(opener: Opener) -> None:
    log = opener()
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(lambda number: log.append([event(number % 150)]), range(300)))
    assert sorted(future.result()[0] for future in futures if future.result() != [None]) == list(range(150))
    log.close()
    again = opener()
    assert sorted(one.timestamp for one in again.replay()) == list(range(150))
    again.close()


def test_a_closed_log_refuses(opener: Opener) -> None:
    log = opener()
    log.close()
    with pytest.raises(StorageError, match="closed"):
        log.append([event(1)])


def test_concurrent_appends_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LocalEventLog(tmp_path)
    first_sync_runs, release = threading.Event(), threading.Event()
    syncs: list[int] = []
    real_sync = os.fdatasync

    def slow_first_sync(file: int) -> None:
        syncs.append(file)
        if len(syncs) == 1:
            first_sync_runs.set()
            release.wait(60)
        real_sync(file)

    monkeypatch.setattr(os, "fdatasync", slow_first_sync)
    first = log.append([event(0)])
    assert first_sync_runs.wait(60)
    waiting = [log.append([event(number)]) for number in range(1, 51)]
    assert not first.done(), "an append was acknowledged before its sync ended"
    release.set()
    assert [future.result(60) for future in [first, *waiting]] == [[number] for number in range(51)]
    assert len(syncs) == 2
    log.close()


def test_a_failed_sync_is_told_to_all_of_its_group_and_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LocalEventLog(tmp_path)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        log.append([event(1)]).result(60)
    monkeypatch.undo()
    assert log.append([event(1)]).result(60) == [0]
    log.close()
    again = LocalEventLog(tmp_path)
    assert list(again.replay()) == [event(1)]
    again.close()


def test_a_caller_who_gave_up_does_not_stop_the_others() -> None:
    running, release = threading.Event(), threading.Event()

    def commit(entries: list[int]) -> list[int]:
        running.set()
        release.wait(60)
        return [entry * 10 for entry in entries]

    group = GroupCommit(commit, "test", max_pending=2)
    first = group.submit(1)
    assert running.wait(60)
    gone, stays = group.submit(2), group.submit(3)
    with pytest.raises(OverloadedError, match="2 writes wait"):
        group.submit(4)
    assert gone.cancel()
    release.set()
    assert (first.result(60), stays.result(60)) == (10, 30)
    assert not first.cancel()
    group.close()
