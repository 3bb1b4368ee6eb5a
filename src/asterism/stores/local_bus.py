"""The event bus of one machine: the event log's own segments, and a file a group that says how far it came."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from asterism.core.errors import ConfigError, StorageError
from asterism.stores.event_bus import Delivery, Receipt
from asterism.stores.event_log import Event, EventLog, Forget, decode_record, needles_of
from asterism.stores.segments import EVERYTHING, START, LinePlace, Position, SegmentFiles, has_more, read_on
from asterism.stores.user_state import Offset

_LOOKS: Final = 4  # while a poll waits
_SHORTEST_PAUSE_SECONDS: Final = 0.01
_PARTITION: Final = "local"
_GROUP: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


class LocalEventBus:
    """Implements `EventBus` over a `LocalEventLog`, which takes each `event_id` once; it has one partition."""

    knows_ids: ClassVar[bool] = True

    def __init__(self, log: EventLog, folder: Path) -> None:
        """Take the open log of this folder; consumers may be in other processes, as `LocalConsumer(folder, group)`."""
        self._log = log
        self._folder = folder

    @property
    def log(self) -> EventLog:
        """The log that is written."""
        return self._log

    def publish(self, events: Sequence[Event]) -> Future[list[Receipt]]:
        """See `EventBus.publish`."""
        done: Future[list[Receipt]] = Future()

        def tell(written: Future[list[int | None]]) -> None:
            error = written.exception()
            if error is None:
                done.set_result([_receipt(number) for number in written.result()])
            else:
                done.set_exception(error)

        self._log.append(events).add_done_callback(tell)
        return done

    def forget(self, forget: Forget) -> Future[Any]:
        """See `EventBus.forget`; what the log holds of the user is erased when it is done."""
        return self._log.forget(forget)

    def forgets(self) -> list[Forget]:
        """Who wants to be forgotten, where not every group is known to have heard it."""
        return self._log.forgets()

    def settle(self) -> Future[int]:
        """Erase what the groups buried of those, and the records themselves that every group has read."""
        for one in self._log.forgets():
            erase_buried(self._folder, one.user_id)
        return self._log.settle(read_by_all(self._folder))

    def consumer(self, group: str) -> LocalConsumer:
        """See `EventBus.consumer`."""
        return LocalConsumer(self._folder, group)

    def close(self) -> None:
        """See `EventBus.close`."""
        self._log.close()


class LocalConsumer:
    """Implements `Consumer`; a group has one member on a machine, and a second one is refused."""

    def __init__(self, folder: Path, group: str) -> None:
        """Go on where the group came to; raises `ConfigError` on an odd name, `StorageError` where it is in use."""
        if not _GROUP.fullmatch(group):
            raise ConfigError(f"{group!r} cannot name a group of consumers; use letters, digits, dots and dashes")
        self._log = folder
        self._folder = folder / "groups"
        self._name = group
        self._file = self._folder / f"{group}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / f"{group}.lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StorageError(f"{self._file}: group {group!r} has a member already; stop that one") from None
        except OSError as error:
            raise StorageError(f"{self._file} cannot be used ({error}); make room, or name another place") from error
        try:
            self._position, self._line, self._given = _committed(self._file)
        except StorageError:
            os.close(self._lock)  # whoever tries again is to hear the reason again
            raise
        self._counted, self._lines = self._position, self._given - self._line  # how far the log's lines are counted
        self._waiting = self._deliveries()

    def poll(self, count: int, timeout_seconds: float) -> list[Delivery]:
        """See `Consumer.poll`."""
        deadline = time.monotonic() + timeout_seconds
        pause = max(timeout_seconds / _LOOKS, _SHORTEST_PAUSE_SECONDS)
        while True:
            if batch := list(islice(self._waiting, count)):
                return batch
            if has_more(self._log, self._position):
                self._waiting = self._deliveries()
                if batch := list(islice(self._waiting, count)):
                    return batch
            if time.monotonic() >= deadline:
                return []
            time.sleep(pause)

    def commit(self) -> None:
        """See `Consumer.commit`."""
        staged = self._file.with_suffix(".writing")
        try:
            with staged.open("w") as stream:
                json.dump([*self._position, self._line, self._given], stream)
                stream.flush()
                os.fsync(stream.fileno())
            staged.replace(self._file)
        except OSError as error:
            raise StorageError(f"{self._file} cannot be written ({error}); make room on the disk") from error

    def bury(self, delivery: Delivery, reason: str) -> None:
        """See `Consumer.bury`; into a log of its own beside the groups."""
        line = {"reason": reason, "offset": delivery.offset.number, "raw": delivery.raw.decode("utf-8", "replace")}
        with contextlib.closing(SegmentFiles(self._folder / f"{self._name}.dead")) as dead:
            dead.append(json.dumps(line).encode())

    def lag(self) -> int:
        """See `Consumer.lag`; exact, by reading what was not counted before."""
        for payload, behind in read_on(self._log, self._counted):
            self._lines += len(payload.splitlines())
            self._counted = behind
        return max(0, self._lines - self._given)

    def close(self) -> None:
        """See `Consumer.close`."""
        os.close(self._lock)

    def _deliveries(self) -> Iterator[Delivery]:
        """What lies behind the position, which moves along."""
        for payload, behind in read_on(self._log, self._position):
            lines = payload.splitlines()
            for line in lines[self._line :]:
                offset = Offset(_PARTITION, self._given)
                self._line, self._given = self._line + 1, self._given + 1
                delivery = _delivery(line, offset)
                if delivery is not None:
                    yield delivery
            self._position, self._line = behind, 0


def _receipt(number: int | None) -> Receipt:
    return Receipt(False, None) if number is None else Receipt(True, Offset(_PARTITION, number))


def _committed(file: Path) -> tuple[Position, int, int]:
    """The frame that a group has in hand, how many lines of it were given, and how many of the whole log."""
    if not file.exists():
        return START, 0, 0
    try:
        segment, byte, line, given = json.loads(file.read_text())
        return Position(int(segment), int(byte)), int(line), int(given)
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"{file} cannot be read ({error}); delete it, and the group reads everything again"
        ) from error


def _delivery(line: bytes, offset: Offset) -> Delivery | None:
    try:
        record = decode_record(line)
    except StorageError:
        return Delivery(None, offset, line)
    if record is None:  # it was erased; its number stays
        return None
    return Delivery(None, offset, line, record) if isinstance(record, Forget) else Delivery(record, offset, line)


class GroupFile(NamedTuple):
    """A group that follows a log, or did once: its name, how many lines it has dealt with, and since when."""

    name: str
    lines: int
    at_seconds: float  # Unix seconds of its last commit, or of its first start


def groups_of(folder: Path) -> list[GroupFile]:
    """All groups of a log, by name; raises `StorageError`."""
    found = []
    for lock in sorted((folder / "groups").glob("*.lock")):
        file = lock.with_suffix(".json")
        _, _, lines = _committed(file)
        found.append(GroupFile(lock.stem, lines, (file if file.exists() else lock).stat().st_mtime))
    return found


def read_by_all(folder: Path) -> LinePlace:
    """The place up to which every group of a log has committed; the end of all where there is no group."""
    places = [EVERYTHING]
    for lock in (folder / "groups").glob("*.lock"):
        position, line, _ = _committed(lock.with_suffix(".json"))
        places.append(LinePlace(*position, line))
    return min(places)


def erase_buried(folder: Path, user_id: str) -> int:
    """Erase what the groups of a log could not deal with of a user; returns how many lines that were."""
    needles = needles_of(user_id)
    escaped = tuple(json.dumps(one.decode("utf-8", "replace"))[1:-1].encode() for one in needles)
    count = 0
    for dead in (folder / "groups").glob("*.dead"):
        with contextlib.closing(SegmentFiles(dead)) as files:
            count += files.blank(lambda line, _: any(one in line for one in escaped))
    return count


def buried(folder: Path, group: str) -> list[str]:
    """The lines that a group could not deal with, oldest first."""
    dead = folder / "groups" / f"{group}.dead"
    return [text for payload, _ in read_on(dead, START) if (text := payload.decode().strip())]
