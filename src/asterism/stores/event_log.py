"""The event log: feedback is accepted only once it is here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from asterism.core.errors import StorageError
from asterism.core.records import Action
from asterism.stores.group_commit import GroupCommit
from asterism.stores.segments import LinePlace, SegmentFiles


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of feedback, by a user or, where there is none, by an anonymous session."""

    event_id: str
    item_id: str
    action: Action
    timestamp: int  # Unix seconds
    user_id: str | None = None
    session_id: str | None = None
    value: float | None = None
    scene: str | None = None
    attribution_id: str | None = None
    trace: str | None = None  # W3C trace context of the request that brought it, where that is recorded


@dataclass(frozen=True, slots=True)
class Forget:
    """The user wants to be forgotten: what was known of them until here is to be erased, wherever it is."""

    user_id: str
    timestamp: int  # Unix seconds


class EventLog(Protocol):
    """A durable, ordered log that takes each `event_id` once."""

    def append(self, events: Sequence[Event]) -> Future[list[int | None]]:
        """Done when all events are on the disk: each one's number in the log, from 0, or None where its id was known.

        Fails with `StorageError`; then none of the events was added. Raises `OverloadedError`.
        """
        ...

    def replay(self) -> Iterator[Event]:
        """All events in the order in which they were accepted."""
        ...

    def forget(self, forget: Forget) -> Future[int]:
        """Done when no event of the user is on the disk: how many there were. What comes later is a new start.

        The record itself stays until everyone who follows the log has read it. Fails with `StorageError`; the
        same call, or the next start, then does the rest.
        """
        ...

    def forgets(self) -> list[Forget]:
        """The records of forgetting that not everyone is known to have read, oldest first."""
        ...

    def settle(self, read: LinePlace) -> Future[int]:
        """Erase the records of forgetting before this place too, as everyone has read so far; how many there were."""
        ...

    def close(self) -> None:
        """Write what waits, then let go of the files."""
        ...


class LocalEventLog:
    """Implements `EventLog` on local segment files with group commit.

    The ids of all events are kept in memory (some 100 bytes each), which bounds how long a log may grow.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 64 << 20, max_pending: int = 10_000) -> None:
        """Open or create the log; raises `StorageError` where it is damaged or in use."""
        self._files = SegmentFiles(folder, segment_bytes)
        self._known: set[str] = set()
        self._forgets: dict[LinePlace, Forget] = {}
        self._length = 0  # in lines, erased ones among them
        try:
            self._read()
        except StorageError:
            self._files.close()
            raise
        self._group: GroupCommit[tuple[Event, ...] | Forget | LinePlace, Any] = GroupCommit(
            self._commit, "event-log", max_pending
        )

    def append(self, events: Sequence[Event]) -> Future[list[int | None]]:
        """See `EventLog.append`."""
        return self._group.submit(tuple(events))

    def replay(self) -> Iterator[Event]:
        """See `EventLog.replay`."""
        return (record for record, _ in self._records() if isinstance(record, Event))

    def forget(self, forget: Forget) -> Future[int]:
        """See `EventLog.forget`."""
        return self._group.submit(forget)

    def forgets(self) -> list[Forget]:
        """See `EventLog.forgets`."""
        return [one for _, one in sorted(dict(self._forgets).items())]

    def settle(self, read: LinePlace) -> Future[int]:
        """See `EventLog.settle`."""
        return self._group.submit(read)

    def close(self) -> None:
        """See `EventLog.close`."""
        self._group.close()
        self._files.close()

    def _read(self) -> None:
        for record, place in self._records():
            self._length += 1
            if isinstance(record, Event):
                self._known.add(record.event_id)
            elif record is not None:
                self._forgets[place] = record
        self._erase({one.user_id: place for place, one in self._forgets.items()})  # a crash may have come between

    def _commit(self, entries: list[tuple[Event, ...] | Forget | LinePlace]) -> list[Any]:
        """Each entry's result, in order; a run of appends is made durable together, and fails together."""
        deal: dict[type, Callable[[list[Any]], list[Any]]] = {
            tuple: self._append,
            Forget: self._forget,
            LinePlace: self._settle,
        }
        results: list[Any] = []
        for kind, some in groupby(entries, type):
            run = list(some)
            try:
                results += deal[kind](run)
            except StorageError as error:
                results += [error] * len(run)
        return results

    def _append(self, appends: list[tuple[Event, ...]]) -> list[list[int | None]]:
        fresh: dict[str, Event] = {}
        numbers: list[list[int | None]] = []
        for events in appends:
            numbers.append([])
            for event in events:
                is_new = event.event_id not in self._known and event.event_id not in fresh
                numbers[-1].append(self._length + len(fresh) if is_new else None)
                if is_new:
                    fresh[event.event_id] = event
        if fresh:
            self._files.append(b"\n".join(encode_event(event) for event in fresh.values()))
            self._known.update(fresh)
            self._length += len(fresh)
        return numbers

    def _forget(self, forgets: list[Forget]) -> list[int]:
        start = self._files.append(b"\n".join(map(encode_forget, forgets)))
        self._length += len(forgets)
        places = {one.user_id: LinePlace(*start, line) for line, one in enumerate(forgets)}
        self._forgets.update({places[one.user_id]: one for one in forgets})
        counts = self._erase(places)
        return [counts[one.user_id] for one in forgets]

    def _erase(self, places: Mapping[str, LinePlace]) -> dict[str, int]:
        """Blank what is known of users before these places; how many events each had."""
        counts = dict.fromkeys(places, 0)
        needles = [needle for user_id in places for needle in needles_of(user_id)]

        def is_chosen(line: bytes, place: LinePlace) -> bool:
            record = decode_record(line) if any(one in line for one in needles) else None
            if record is None or (user_id := record.user_id) is None or place >= places.get(user_id, place):
                return False
            if isinstance(record, Event):
                counts[user_id] += 1
                self._known.discard(record.event_id)
            else:
                self._forgets.pop(place, None)
            return True

        if places:
            self._files.blank(is_chosen)
        return counts

    def _settle(self, reads: list[LinePlace]) -> list[int]:
        done = {place for place in self._forgets if place < max(reads)}
        count = self._files.blank(lambda _, place: place in done) if done else 0
        for place in done:
            del self._forgets[place]
        return [count] * len(reads)

    def _records(self) -> Iterator[tuple[Event | Forget | None, LinePlace]]:
        return ((decode_record(line), place) for line, place in self._files.lines())


def encode_event(event: Event) -> bytes:
    """One line of JSON, without what is None."""
    filled = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return json.dumps({name: value for name, value in filled.items() if value is not None}).encode()


def encode_forget(forget: Forget) -> bytes:
    """One line of JSON, which no event looks like."""
    return json.dumps({"forget": forget.user_id, "timestamp": forget.timestamp}).encode()


def decode_record(line: bytes) -> Event | Forget | None:
    """What a line holds, None where it was erased; raises `StorageError` where it is neither."""
    if not line.strip():
        return None
    try:
        raw: dict[str, Any] = json.loads(line)
        if "forget" in raw:
            return Forget(raw["forget"], raw["timestamp"])
        return Event(**{**raw, "action": Action(raw["action"])})
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"the event log holds a record that is no event ({error}): {line[:200]!r}") from error


def needles_of(user_id: str) -> tuple[bytes, ...]:
    """What a line of JSON that names a user holds, whether its writer escapes what is not ASCII or not."""
    texts = {json.dumps(user_id), json.dumps(user_id, ensure_ascii=False)}
    return tuple(sorted(text.encode("utf-8", "surrogatepass") for text in texts))
