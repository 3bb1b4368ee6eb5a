"""The exposure log: what was shown to whom, and where it came from."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from asterism.core.errors import OverloadedError, StorageError
from asterism.stores.group_commit import GroupCommit
from asterism.stores.segments import LinePlace, SegmentFiles
from asterism.stores.used_features import FeatureReader, FeatureWriter, KnownState, UsedFeatures, WrittenFeatures
from asterism.stores.user_state import Visitor
from asterism.stores.users import digest_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One answer as it was given; feedback names it by `attribution_id`."""

    attribution_id: str
    timestamp: int  # Unix seconds
    item_ids: tuple[str, ...]
    source: str
    user_id: str | None = None
    session_id: str | None = None
    scene: str | None = None
    bundle_version: str | None = None
    propensities: tuple[float, ...] | None = None  # of each item given those above it, where slots were explored
    used: UsedFeatures | None = None


class Shown:
    """An answer that may be given again, to the same visitor: what it shows, and what the log made of that once."""

    __slots__ = ("exposure", "owner", "written")

    def __init__(self, exposure: Exposure) -> None:
        self.exposure = exposure
        self.owner = _owner(exposure)
        self.written: _Written | None = None  # once it is on the disk


class ExposureLog(Protocol):
    """Takes exposures off the path of the request."""

    @property
    def lost(self) -> int:
        """Exposures that were taken since the start and could not be written."""
        ...

    def record(self, exposure: Exposure) -> None:
        """Queue an exposure; raises `OverloadedError` when too many wait."""
        ...

    def record_again(self, shown: Shown, attribution_id: str, timestamp: int) -> None:
        """As `record`, of the same answer under another id and at another time."""
        ...

    def replay(self) -> Iterator[Exposure]:
        """All exposures that reached the disk, oldest first."""
        ...

    def forget(self, digests: Mapping[str, int]) -> Future[int]:
        """Erase what was shown to users, by their `digest_of`, until a time; done when on the disk: how many.

        Fails with `StorageError`.
        """
        ...

    def close(self) -> None:
        """Write what waits, then let go of the files."""
        ...


class LocalExposureLog:
    """Implements `ExposureLog` on local segment files; the last tenth of a second before a crash may be missing.

    Exposures are gathered, encoded and written by a thread, many at once: `record` itself costs a microsecond. A line
    that can be joined of what is on the disk already is joined by whoever records it: a thread that makes thousands
    holds the interpreter for milliseconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 64 << 20,
        max_pending: int = 10_000,
        gathering_seconds: float = 0.1,
    ) -> None:
        """Open or create the log; raises `StorageError` where it is damaged or in use."""
        self._files = SegmentFiles(folder, segment_bytes)
        self._max_pending = max_pending
        self._gathering_seconds = gathering_seconds
        self.lost = 0  # exposures that were taken and could not be written
        self._waiting: list[_Entry] = []
        self._features = FeatureWriter()
        self._group: GroupCommit[tuple[_Entry, ...] | dict[str, int], int] = GroupCommit(
            self._commit, "exposure-log", max_pending
        )
        self._handing_over = threading.Lock()
        self._has_some = threading.Event()
        self._has_enough = threading.Event()  # so that they are written before their time is over
        self._closing = threading.Event()
        self._gatherer = threading.Thread(target=self._gather, name="exposures", daemon=True)
        self._gatherer.start()

    def record(self, exposure: Exposure) -> None:
        """See `ExposureLog.record`; what cannot be written is told in the program's log."""
        self._queue(exposure)

    def record_again(self, shown: Shown, attribution_id: str, timestamp: int) -> None:
        """See `ExposureLog.record_again`; its line is joined of parts that are encoded once."""
        written = shown.written
        if written is None or not written.still_stands():
            self._queue(_Again(shown, attribution_id, timestamp))
        else:
            self._queue(_joined(attribution_id, timestamp, written.behind))

    def _queue(self, entry: _Entry) -> None:
        if self._closing.is_set():
            raise StorageError("the exposure log is closed; the service is shutting down")
        if len(self._waiting) >= self._max_pending:
            raise OverloadedError(f"{self._max_pending} exposures wait for the disk already; nothing more is recorded")
        self._waiting.append(entry)
        if not self._has_some.is_set():
            self._has_some.set()
        if len(self._waiting) == _ENOUGH:
            self._has_enough.set()

    def replay(self) -> Iterator[Exposure]:
        """See `ExposureLog.replay`."""
        reader = FeatureReader()
        for payload in self._files.replay():
            for line in filter(bytes.strip, payload.splitlines()):
                yield _exposure(_decode(line), reader)

    def forget(self, digests: Mapping[str, int]) -> Future[int]:
        """See `ExposureLog.forget`."""
        self._hand_over()
        return self._group.submit(dict(digests))

    def close(self) -> None:
        """See `ExposureLog.close`."""
        self._closing.set()
        self._has_some.set()
        self._has_enough.set()
        self._gatherer.join()
        self._hand_over()
        self._group.close()
        self._files.close()

    def _gather(self) -> None:
        while not self._closing.is_set():  # looked at behind the clearing: `close` sets it before the other two
            self._has_some.wait()
            self._has_enough.wait(self._gathering_seconds)
            self._has_some.clear()
            self._has_enough.clear()
            written = self._hand_over()
            if written is not None:
                wait([written])  # what comes meanwhile is bounded, so a slow disk is felt by `record`

    def _hand_over(self) -> Future[int] | None:
        with self._handing_over:
            batch = tuple(self._waiting)
            del self._waiting[: len(batch)]
            if not batch:
                return None
            written = self._group.submit(batch)
        written.add_done_callback(partial(self._note_if_lost, len(batch)))
        return written

    def _note_if_lost(self, count: int, written: Future[int]) -> None:
        error = written.exception()
        if error is not None:
            self.lost += count
            logger.warning("%d exposures were lost: %s", count, error)

    def _commit(self, entries: list[tuple[_Entry, ...] | dict[str, int]]) -> list[int | Exception]:
        """In order; a run of exposures is written together."""
        results: list[int | Exception] = []
        for kind, some in groupby(entries, type):
            run = list(some)
            try:
                results += self._write(run) if kind is tuple else self._erase(run)
            except StorageError as error:
                results += [error] * len(run)
        return results

    def _write(self, batches: list[Any]) -> list[int]:
        fresh: list[tuple[Shown, _Written]] = []
        lines = [one if type(one) is bytes else self._line_of(one, fresh) for batch in batches for one in batch]
        try:
            self._files.append(*lines[:-1], lines[-1].rstrip())
        except Exception:
            self._features.start_anew()
            raise
        for shown, written in fresh:
            shown.written = written
        return [len(batch) for batch in batches]

    def _line_of(self, entry: Exposure | _Again, fresh: list[tuple[Shown, _Written]]) -> bytes:
        if isinstance(entry, Exposure):
            return _encode(_line(entry, self._features)) + b"\n"
        shown = entry.shown
        line = _line(shown.exposure, self._features)
        behind = _behind(line)
        line.state = None  # it is in the log from now on
        fresh.append((shown, _Written(_behind(line), self._features.known(shown.owner, shown.exposure.used))))
        return _joined(entry.attribution_id, entry.timestamp, behind)

    def _erase(self, forgets: list[Any]) -> list[int]:
        until = {digest: at for one in forgets for digest, at in one.items()}

        def is_chosen(line: bytes, _: LinePlace) -> bool:
            raw = json.loads(line) if line.strip() else {}
            user_id = raw.get("user_id")
            return user_id is not None and raw["timestamp"] <= until.get(digest_of(user_id), -1)

        if until:
            self._features.forget(until)
        return [self._files.blank(is_chosen)] + [0] * (len(forgets) - 1)


class _Again(NamedTuple):
    shown: Shown
    attribution_id: str
    timestamp: int


class _Written(NamedTuple):
    """What is behind an answer's id and time in its line, and the state that it names, if it names one."""

    behind: bytes
    state: KnownState | None

    def still_stands(self) -> bool:
        """Whether a line made of this can be read; says that it is made."""
        if self.state is None:
            return True
        self.state.was_named = True
        return self.state.is_known


_Entry = Exposure | _Again | bytes


class _Line(msgspec.Struct, omit_defaults=True):
    attribution_id: str
    timestamp: int
    item_ids: tuple[str, ...]
    source: str
    user_id: str | None = None
    session_id: str | None = None
    scene: str | None = None
    bundle_version: str | None = None
    propensities: tuple[float, ...] | None = None
    used: WrittenFeatures | None = None
    state: bytes | None = None  # that `used` names, where it was not written before


_ENOUGH: Final = 1_000  # lines; more at once would hold the interpreter for too long
_PLAIN: Final = tuple(one for one in _Line.__struct_fields__ if one not in {"used", "state"})
_plain_of: Final = attrgetter(*_PLAIN)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


def _owner(exposure: Exposure) -> Visitor | None:
    return Visitor(exposure.user_id, exposure.session_id).key


def _behind(line: _Line) -> bytes:
    """A line without its id and its time, which stand first; a quote within a text is escaped, so this is no text."""
    encoded = _encode(line)
    return encoded[encoded.index(b',"item_ids":') :]


def _joined(attribution_id: str, timestamp: int, behind: bytes) -> bytes:
    return b'{"attribution_id":%b,"timestamp":%d%b\n' % (_encode(attribution_id), timestamp, behind)


def _line(exposure: Exposure, features: FeatureWriter) -> _Line:
    visitor = _owner(exposure)
    used, state = None, None
    if exposure.used is not None and visitor is not None:
        used, state = features.written(visitor, exposure.used)
    return _Line(*(*_plain_of(exposure), used, state))


def _exposure(line: _Line, features: FeatureReader) -> Exposure:
    used = None if line.used is None else features.read(line.used, line.state)
    plain: dict[str, Any] = {one: getattr(line, one) for one in _PLAIN}
    return Exposure(**plain, used=used)
