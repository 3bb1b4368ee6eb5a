"""The event log: feedback is accepted only once it is here."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from asterism.core.errors import AsterismError, OverloadedError, StorageError
from asterism.core.records import Action
from asterism.stores.group_commit import GroupCommit
from asterism.stores.segments import EVERYTHING, BlankCopy, LinePlace, SegmentFiles


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

        Fails with `StorageError`, and with `OverloadedError` while one of their users is being erased; then none of
        the events was added. Raises `OverloadedError`.
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

    The ids of all events are kept in memory (some 100 bytes each), which bounds how long a log may grow. Where a user
    is erased, a thread of its own reads the log and copies segments, and the one that writes puts them in place: all
    others write meanwhile, and the user's own events are refused until it is done.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 64 << 20, max_pending: int = 10_000) -> None:
        """Open or create the log; raises `StorageError` where it is damaged or in use."""
        self._files = SegmentFiles(folder, segment_bytes)
        self._known: set[str] = set()
        self._forgets: dict[LinePlace, Forget] = {}
        self._unerased: dict[str, LinePlace] = {}  # the last record of each user of whom something may be left
        self._length = 0  # in lines, erased ones among them
        try:
            self._read()
        except StorageError:
            self._files.close()
            raise
        self._group: GroupCommit[tuple[Event, ...] | Forget | _Erasure | _Erased, Any] = GroupCommit(
            self._commit, "event-log", max_pending
        )
        self._eraser: GroupCommit[_Wish | LinePlace, int] = GroupCommit(
            self._erase_all, "event-log-eraser", max_pending
        )

    def append(self, events: Sequence[Event]) -> Future[list[int | None]]:
        """See `EventLog.append`."""
        return self._group.submit(tuple(events))

    def replay(self) -> Iterator[Event]:
        """See `EventLog.replay`."""
        return (record for record, _ in self._records() if isinstance(record, Event))

    def forget(self, forget: Forget) -> Future[int]:
        """See `EventLog.forget`."""
        return self._eraser.submit(_Wish(forget.user_id, self._group.submit(forget)))

    def forgets(self) -> list[Forget]:
        """See `EventLog.forgets`."""
        return [one for _, one in sorted(dict(self._forgets).items())]

    def settle(self, read: LinePlace) -> Future[int]:
        """See `EventLog.settle`."""
        return self._eraser.submit(read)

    def close(self) -> None:
        """See `EventLog.close`."""
        self._eraser.close()
        self._group.close()
        self._files.close()

    def _read(self) -> None:
        for record, place in self._records():
            self._length += 1
            if isinstance(record, Event):
                self._known.add(record.event_id)
            elif record is not None:
                self._forgets[place] = record
        self._erase({one.user_id: place for place, one in self._forgets.items()}, self._put)  # after a crash
        self._files.sync()

    def _commit(self, entries: list[tuple[Event, ...] | Forget | _Erasure | _Erased]) -> list[Any]:
        """Each entry's result, in order; a run of appends is made durable together, and fails together."""
        return _dealt_with(
            entries, {tuple: self._append, Forget: self._note, _Erasure: self._put, _Erased: self._let_in}
        )

    def _erase_all(self, entries: list[_Wish | LinePlace]) -> list[Any]:
        """Each entry's result, in order; those who wish it at one time are forgotten in one reading."""
        return _dealt_with(entries, {_Wish: self._forget, LinePlace: self._settle})

    def _append(self, appends: list[tuple[Event, ...]]) -> list[list[int | None] | OverloadedError]:
        fresh: dict[str, Event] = {}
        numbers: list[list[int | None] | OverloadedError] = []
        for events in appends:
            if self._unerased and any(event.user_id in self._unerased for event in events):
                numbers.append(OverloadedError("a user of these events is being forgotten; send this again later"))
                continue
            given: list[int | None] = []
            for event in events:
                is_new = event.event_id not in self._known and event.event_id not in fresh
                given.append(self._length + len(fresh) if is_new else None)
                if is_new:
                    fresh[event.event_id] = event
            numbers.append(given)
        if fresh:
            self._files.append(b"\n".join(encode_event(event) for event in fresh.values()))
            self._known.update(fresh)
            self._length += len(fresh)
        return numbers

    def _note(self, forgets: list[Forget]) -> list[LinePlace]:
        """Write the records of forgetting; where they stand."""
        start = self._files.append(b"\n".join(map(encode_forget, forgets)))
        self._length += len(forgets)
        places = [LinePlace(*start, line) for line in range(len(forgets))]
        self._unerased.update((one.user_id, place) for place, one in zip(places, forgets, strict=True))
        self._forgets.update(zip(places, forgets, strict=True))
        return places

    def _put(self, erasures: list[_Erasure]) -> list[None]:
        for one in erasures:
            self._files.put(one.copy)
            self._known.difference_update(one.event_ids)
            for place in one.records:
                self._forgets.pop(place, None)
        return [None] * len(erasures)

    def _let_in(self, erased: list[_Erased]) -> list[None]:
        """Take events of users again of whom nothing is left, also on the disk."""
        self._files.sync()
        for user_id, place in (pair for one in erased for pair in one.places.items()):
            if self._unerased.get(user_id) == place:
                del self._unerased[user_id]
        return [None] * len(erased)

    def _forget(self, wishes: list[_Wish]) -> list[int | BaseException]:
        failures = [one.noted.exception() for one in wishes]  # known once all are written
        counts = self._erase_left()
        return [failure or counts[one.user_id] for one, failure in zip(wishes, failures, strict=True)]

    def _erase_left(self) -> Mapping[str, int]:
        """As `_erase`, while the log is written by its own thread; where it fails they are left for the next time."""
        left = dict(self._unerased)  # also of who asked, and whose wish never came here
        counts = self._erase(left, self._put_by_writer)
        self._group.submit(_Erased(left)).result()
        return counts

    def _put_by_writer(self, erasures: list[_Erasure]) -> None:
        for one in erasures:
            self._group.submit(one).result()

    def _erase(self, places: Mapping[str, LinePlace], put: Callable[[list[_Erasure]], object]) -> Counter[str]:
        """Blank what is known of users before these places; how many events each had."""
        counts = Counter(dict.fromkeys(places, 0))
        needles = [needle for user_id in places for needle in needles_of(user_id)]

        def may_hold(text: bytes, _: object) -> bool:
            return any(one in text for one in needles)

        def is_chosen(line: bytes, place: LinePlace) -> bool:
            record = decode_record(line) if may_hold(line, place) else None
            return record is not None and record.user_id is not None and place < places.get(record.user_id, place)

        for copy in self._files.blank_copies(is_chosen, may_hold=may_hold) if places else ():
            erasure = _erasure(copy)
            put([erasure])
            counts.update(erasure.user_ids)
        return counts

    def _settle(self, reads: list[LinePlace]) -> list[int]:
        if self._unerased:
            self._erase_left()
        noted = {place for place in dict(self._forgets) if place < max(reads)}
        done = noted - set(dict(self._unerased).values())  # looked at after the records: who comes meanwhile is in it
        frames = {(place.segment, place.byte) for place in done}
        for copy in self._files.blank_copies(
            lambda _, place: place in done,
            may_hold=lambda _, position: position in frames,
            since=min(done, default=EVERYTHING).segment,
        ):
            self._put_by_writer([_erasure(copy)])
        self._group.submit(_Erased({})).result()
        return [len(done)] * len(reads)

    def _records(self) -> Iterator[tuple[Event | Forget | None, LinePlace]]:
        return ((decode_record(line), place) for line, place in self._files.lines())


class _Wish(NamedTuple):
    """To be forgotten, with the place of the record once that is written."""

    user_id: str
    noted: Future[LinePlace]


class _Erasure(NamedTuple):
    """What is gone once a copy is in its segment's place."""

    copy: BlankCopy
    user_ids: list[str]  # one an event
    event_ids: list[str]
    records: list[LinePlace]  # of forgetting


class _Erased(NamedTuple):
    """Users of whom nothing is left before these places."""

    places: Mapping[str, LinePlace]


def _erasure(copy: BlankCopy) -> _Erasure:
    found = [(decode_record(line), place) for line, place in copy.lines]
    events = [record for record, _ in found if isinstance(record, Event)]
    return _Erasure(
        copy,
        user_ids=[one.user_id for one in events if one.user_id is not None],
        event_ids=[one.event_id for one in events],
        records=[place for record, place in found if isinstance(record, Forget)],
    )


def _dealt_with(entries: list[Any], deal: Mapping[type, Callable[[list[Any]], Sequence[Any]]]) -> list[Any]:
    """Each entry's result, in order; a run of one kind fails together."""
    results: list[Any] = []
    for kind, some in groupby(entries, type):
        run = list(some)
        try:
            results += deal[kind](run)
        except AsterismError as error:
            results += [error] * len(run)
    return results


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
