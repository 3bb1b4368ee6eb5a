"""Who is forgotten is in no byte of the logs, offsets stay, and a crash in the middle leaves either version."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import OverloadedError, StorageError
from asterism.core.records import Action
from asterism.stores import segments
from asterism.stores.event_bus import consume
from asterism.stores.event_log import Event, Forget, LocalEventLog
from asterism.stores.exposure_log import Exposure, LocalExposureLog, Shown
from asterism.stores.local_bus import LocalConsumer, LocalEventBus, buried, erase_buried, read_by_all
from asterism.stores.segments import EVERYTHING, LinePlace, SegmentFiles
from asterism.stores.used_features import UsedFeatures
from asterism.stores.user_state import RecentEvent, UserState
from asterism.stores.users import digest_of

ADA = "adä-7e1"


def event(number: int, user_id: str = "bob") -> Event:
    return Event(f"{user_id}/{number}", f"i{number}", Action.CLICK, timestamp=number, user_id=user_id)


@contextlib.contextmanager
def opened(folder: Path, segment_bytes: int = 1 << 20) -> Iterator[LocalEventLog]:
    log = LocalEventLog(folder, segment_bytes=segment_bytes)
    try:
        yield log
    finally:
        log.close()


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def names(user_id: str) -> list[bytes]:
    """A user's id as any of our files could write it."""
    return [user_id.encode(), user_id.encode("unicode_escape").replace(rb"\x", rb"\u00")]


def test_a_users_events_are_blanked_in_place_over_all_segments(tmp_path: Path) -> None:
    events = [event(number, ADA if number % 3 else "bob") for number in range(30)]
    with opened(tmp_path, segment_bytes=300) as log:
        log.append(events[:4]).result(60)
        for one in events[4:]:
            log.append([one]).result(60)
        sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.log")}
        assert len(sizes) > 4
        assert log.forget(Forget(ADA, 99)).result(60) == 20
        last = max(sizes)
        assert all((tmp_path / name).stat().st_size == size for name, size in sizes.items() if name != last)
        assert log.append([event(1, ADA)]).result(60) == [31], "a later event starts anew, whatever its id"
        assert log.append([event(3)]).result(60) == [None]
        assert [one for one in log.replay() if one.user_id == ADA] == [event(1, ADA)]
    with opened(tmp_path, segment_bytes=300) as log:
        assert list(log.replay()) == [*(one for one in events if one.user_id == "bob"), event(1, ADA)]
        assert log.forgets() == [Forget(ADA, 99)]
        assert log.settle(EVERYTHING).result(60) == 1
        assert log.forgets() == []
        assert log.forget(Forget(ADA, 100)).result(60) == 1
        log.settle(EVERYTHING).result(60)
    assert not [name for name in names(ADA) if name in bytes_in(tmp_path)]
    assert b"bob" in bytes_in(tmp_path)


def test_a_name_that_only_contains_the_forgotten_one_stays(tmp_path: Path) -> None:
    kept = [event(1, "ada2"), Event("ada", "ada", Action.CLICK, 2, session_id="ada", scene='"ada"')]
    with opened(tmp_path) as log:
        log.append([*kept, event(3, "ada")]).result(60)
        assert log.forget(Forget("ada", 9)).result(60) == 1
        assert list(log.replay()) == kept


@given(
    users=st.lists(st.sampled_from(["a", "b", 'q"\n', "\x00", "ü\u2028"]), max_size=12),
    gone=st.sampled_from(["a", 'q"\n', "\x00", "ü\u2028"]),
    segment_bytes=st.integers(1, 400),
)
@settings(max_examples=25)
def test_all_others_stay_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, users: list[str], gone: str, segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    events = [event(number, user) for number, user in enumerate(users)]
    with opened(folder, segment_bytes) as log:
        for start in range(0, len(events), 3):
            log.append(events[start : start + 3]).result(60)
        assert log.forget(Forget(gone, 0)).result(60) == users.count(gone)
    with opened(folder, segment_bytes) as log:
        assert list(log.replay()) == [one for one in events if one.user_id != gone]


def test_a_follower_gets_the_others_at_the_same_offsets_and_hears_who_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([event(0), event(1, ADA), event(2)]).result(60)
        bus = LocalEventBus(log, tmp_path)
        bus.forget(Forget(ADA, 9)).result(60)
        bus.publish([event(3)]).result(60)
        consumer = LocalConsumer(tmp_path, "g")
        assert read_by_all(tmp_path) == LinePlace(0, 0, 0)
        given_now = consumer.poll(9, 0.1)
        assert [(one.offset.number, one.event, one.forget) for one in given_now] == [
            (0, event(0), None),
            (2, event(2), None),
            (3, None, Forget(ADA, 9)),
            (4, event(3), None),
        ]
        assert log.settle(read_by_all(tmp_path)).result(60) == 0, "the group has not committed yet"
        consumer.commit()
        assert log.settle(read_by_all(tmp_path)).result(60) == 1
        consumer.close()
        assert not [name for name in names(ADA) if name in bytes_in(tmp_path)]


def test_consuming_hands_over_who_is_to_be_forgotten_in_order(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([event(0)]).result(60)
        log.forget(Forget(ADA, 9)).result(60)
        log.append([event(1)]).result(60)
        heard: list[object] = []
        consumer = LocalConsumer(tmp_path, "g")
        consume(
            consumer,
            lambda one, _: heard.append(one),
            until=lambda: len(heard) == 3,
            forget=lambda one, _: heard.append(one),
        )
        assert heard == [event(0), Forget(ADA, 9), event(1)]
        consumer.close()


def test_what_could_not_be_dealt_with_is_erased_too(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append([event(0, ADA), event(1)]).result(60)
        consumer = LocalConsumer(tmp_path, "g")
        for delivery in consumer.poll(2, 0.1):
            consumer.bury(delivery, "poison")
        assert erase_buried(tmp_path, ADA) == 1
        (left,) = buried(tmp_path, "g")
        assert "bob" in left
        consumer.close()


CHILD = """
import os, signal, sys, pathlib
from asterism.stores import segments
from asterism.stores.event_log import Forget, LocalEventLog
log = LocalEventLog(pathlib.Path(sys.argv[1]), segment_bytes=300)
step, calls = int(sys.argv[2]), [0]
def dying(real):
    def call(*arguments, **more):
        calls[0] += 1
        if calls[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call
segments.os.write = dying(os.write)
segments.os.pwrite = dying(os.pwrite)
segments.os.fsync = dying(os.fsync)
pathlib.Path.replace = dying(pathlib.Path.replace)
log.forget(Forget(sys.argv[3], 9)).result(60)
print(calls[0])
"""


def forget_in_a_child(folder: Path, step: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", CHILD, str(folder), str(step), ADA]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def test_a_kill_at_any_step_leaves_all_events_or_none_and_the_next_start_ends_it(tmp_path: Path) -> None:
    events = [event(number, ADA if number % 2 else "bob") for number in range(9)]

    def fill(folder: Path) -> Path:
        with opened(folder, segment_bytes=300) as log:
            for one in events:
                log.append([one]).result(60)
        return folder

    steps = int(forget_in_a_child(fill(tmp_path / "whole"), 0).stdout)
    assert steps >= 9
    for step in (1, 2, 3, 4, 5, steps - 2, steps):
        folder = fill(tmp_path / str(step))
        assert forget_in_a_child(folder, step).returncode == -signal.SIGKILL
        with opened(folder, segment_bytes=300) as log:
            was_promised = bool(log.forgets())
            left = [one for one in log.replay() if one.user_id == ADA]
            assert len(left) == (0 if was_promised else 4)
            assert [one for one in log.replay() if one.user_id == "bob"] == events[::2]
            log.append([event(50)]).result(60)
        assert not list(folder.glob("*.blanking"))


class Held:
    """A disk that takes the first copy only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_reached = threading.Event()
        self.goes_on = threading.Event()
        self.real = os.fsync
        monkeypatch.setattr(segments.os, "fsync", self)

    def __call__(self, file: int) -> None:
        if not self.is_reached.is_set():
            self.is_reached.set()
            assert self.goes_on.wait(60)
        self.real(file)


@pytest.mark.parametrize("segment_bytes", [1 << 20, 400])
def test_others_write_while_a_user_is_erased_whose_own_events_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    with opened(tmp_path, segment_bytes) as log:
        log.append([event(0, ADA), event(1), event(2, ADA)]).result(60)
        held = Held(monkeypatch)
        forgotten = log.forget(Forget(ADA, 9))
        assert held.is_reached.wait(60)
        others = [event(number) for number in range(10, 20)]
        for number, one in enumerate(others):
            assert log.append([one]).result(60) == [4 + number]
        for refused in ([event(0, ADA)], [event(20), event(21, ADA)]):
            with pytest.raises(OverloadedError, match="being forgotten; send this again later"):
                log.append(refused).result(60)
        assert not forgotten.done()
        assert log.forgets() == [Forget(ADA, 9)]
        held.goes_on.set()
        assert forgotten.result(60) == 2
        assert log.append([event(0, ADA), event(20)]).result(60) == [14, 15], "its id is free again"
        assert list(log.replay()) == [event(1), *others, event(0, ADA), event(20)]
        assert log.settle(EVERYTHING).result(60) == 1
        assert log.append([event(11), event(0, ADA)]).result(60) == [None, None]
    with opened(tmp_path, segment_bytes) as log:
        assert list(log.replay()) == [event(1), *others, event(0, ADA), event(20)]


def test_all_who_ask_meanwhile_are_forgotten_in_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as log:
        log.append([event(number, user) for number, user in enumerate(["ada", "bob", "ada", "eve", "kim"])]).result(60)
        held = Held(monkeypatch)
        first = log.forget(Forget("ada", 1))
        assert held.is_reached.wait(60)
        later = [log.forget(Forget(user, 2)) for user in ("bob", "eve", "bob", "nobody")]
        readings: list[int] = []
        real = SegmentFiles.blank_copies

        def counted(files: SegmentFiles, *choice: Any, **more: Any) -> Iterator[Any]:
            readings.append(1)
            return real(files, *choice, **more)

        monkeypatch.setattr(SegmentFiles, "blank_copies", counted)
        held.goes_on.set()
        assert first.result(60) == 2
        assert [one.result(60) for one in later] == [1, 1, 1, 0]
        assert len(readings) == 1
        assert [one.user_id for one in log.replay()] == ["kim"]
        assert [one.user_id for one in log.forgets()] == ["ada", "eve", "bob", "nobody"]


def test_a_wish_that_is_given_up_once_its_record_is_written_is_fulfilled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as log:
        log.append([event(0, "ada"), event(1, "kim"), event(2)]).result(60)
        held = Held(monkeypatch)
        first = log.forget(Forget("ada", 1))
        assert held.is_reached.wait(60)
        given_up = log.forget(Forget("kim", 2))
        log.append([event(3)]).result(60)  # behind the record
        assert given_up.cancel()
        held.goes_on.set()
        assert first.result(60) == 1
        assert log.settle(EVERYTHING).result(60) == 2
        assert log.forgets() == []
        assert list(log.replay()) == [event(2), event(3)]
        assert log.append([event(1, "kim")]).result(60) == [6]


def test_a_folder_that_cannot_be_synced_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as log:
        log.append([event(0, ADA), event(1)]).result(60)

        def broken(files: SegmentFiles) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(SegmentFiles, "_sync_folder", broken)
            with pytest.raises(StorageError, match="nothing can be erased"):
                log.forget(Forget(ADA, 9)).result(60)
            with pytest.raises(StorageError, match="the log cannot be written"):
                log.append([event(2)]).result(60)
        assert log.settle(EVERYTHING).result(60) == 1
        assert log.forgets() == []
        assert log.append([event(0, ADA)]).result(60) == [3], "its id is free again"


def test_the_record_stays_until_the_user_is_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as log:
        log.append([event(0, ADA), event(1)]).result(60)
        real = Path.replace

        def full(path: Path, target: Path) -> Path:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        for call in (lambda: log.forget(Forget(ADA, 9)), lambda: log.settle(EVERYTHING)):
            with pytest.raises(StorageError, match="nothing can be erased"):
                call().result(60)
        assert log.forgets() == [Forget(ADA, 9)]
        monkeypatch.setattr(Path, "replace", real)
        assert log.settle(EVERYTHING).result(60) == 1, "with room again what was left is done first"
        assert list(log.replay()) == [event(1)]
        assert log.forgets() == []
        assert log.append([event(0, ADA)]).result(60) == [3]


def test_a_disk_that_is_full_forgets_nothing_by_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as log:
        log.append([event(0, ADA), event(1)]).result(60)
        real = Path.replace

        def full(path: Path, target: Path) -> Path:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(StorageError, match="nothing can be erased"):
            log.forget(Forget(ADA, 9)).result(60)
        monkeypatch.setattr(Path, "replace", real)
        assert log.append([event(2)]).result(60) == [3]
        assert log.forget(Forget(ADA, 10)).result(60) == 1
        assert list(log.replay()) == [event(1), event(2)]
        assert log.forgets() == [Forget(ADA, 10)], "the newer record stands for the older one"


def test_exposures_are_erased_and_the_rest_is_read_on(tmp_path: Path) -> None:
    shown = [Exposure(f"a{n}", n, ("x",), "model", user_id=ADA if n % 2 else None, session_id="s") for n in range(6)]
    log = LocalExposureLog(tmp_path)
    for one in shown:
        log.record(one)
    assert log.forget({digest_of(ADA): 3, digest_of("nobody"): 9}).result(60) == 2
    assert log.forget({digest_of(ADA): 9}).result(60) == 1
    log.record(shown[0])
    log.close()
    again = LocalExposureLog(tmp_path)
    assert list(again.replay()) == [*shown[::2], shown[0]]
    again.close()
    assert not [name for name in names(ADA) if name in bytes_in(tmp_path)]


def test_what_is_shown_after_names_no_state_that_was_erased(tmp_path: Path) -> None:
    used = UsedFeatures(UserState((RecentEvent(1, "x", Action.CLICK),), frozenset("x"), revision=4), 1.0, 30)
    shown = Shown(Exposure("a", 1, ("x",), "model", user_id=ADA, used=used))
    log = LocalExposureLog(tmp_path)
    for number in range(3):
        log.record_again(shown, f"a{number}", number)
        log.forget({}).result(60)  # comes behind what waits
    assert log.forget({digest_of(ADA): 2}).result(60) == 3
    log.record_again(shown, "later", 3)
    log.close()
    again = LocalExposureLog(tmp_path)
    assert [(one.attribution_id, one.used) for one in again.replay()] == [("later", used)]
    again.close()
