"""The event log: feedback is accepted only once it is here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from asterism.core.errors import StorageError
from asterism.core.records import Action
from asterism.stores.group_commit import GroupCommit
from asterism.stores.segments import SegmentFiles


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
        self._length = 0
        for event in self.replay():
            self._known.add(event.event_id)
            self._length += 1
        self._group = GroupCommit(self._commit, "event-log", max_pending)

    def append(self, events: Sequence[Event]) -> Future[list[int | None]]:
        """See `EventLog.append`."""
        return self._group.submit(tuple(events))

    def replay(self) -> Iterator[Event]:
        """See `EventLog.replay`."""
        for payload in self._files.replay():
            for line in payload.splitlines():
                yield decode_event(line)

    def close(self) -> None:
        """See `EventLog.close`."""
        self._group.close()
        self._files.close()

    def _commit(self, appends: list[tuple[Event, ...]]) -> list[list[int | None]]:
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


def encode_event(event: Event) -> bytes:
    """One line of JSON, without what is None."""
    filled = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return json.dumps({name: value for name, value in filled.items() if value is not None}).encode()


def decode_event(line: bytes) -> Event:
    """The event of a line; raises `StorageError` where it is none."""
    try:
        raw: dict[str, Any] = json.loads(line)
        return Event(**{**raw, "action": Action(raw["action"])})
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"the event log holds a record that is no event ({error}): {line[:200]!r}") from error
