"""The exposure log: what was shown to whom, and where it came from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from asterism.core.errors import OverloadedError, StorageError
from asterism.stores.segments import SegmentFiles

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


class ExposureLog(Protocol):
    """Takes exposures off the path of the request."""

    def record(self, exposure: Exposure) -> None:
        """Queue an exposure; raises `OverloadedError` when too many wait."""
        ...

    def replay(self) -> Iterator[Exposure]:
        """All exposures that reached the disk, oldest first."""
        ...

    def close(self) -> None:
        """Write what waits, then let go of the files."""
        ...


class LocalExposureLog:
    """Implements `ExposureLog` on local segment files; the last tenth of a second before a crash may be missing.

    Exposures are gathered, encoded and written by a thread, many at once: `record` itself costs a microsecond.
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
        self._waiting: list[Exposure] = []
        self._writing = threading.Lock()
        self._has_some = threading.Event()
        self._closing = threading.Event()
        self._gatherer = threading.Thread(target=self._gather, name="exposure-log", daemon=True)
        self._gatherer.start()

    def record(self, exposure: Exposure) -> None:
        """See `ExposureLog.record`; what cannot be written is told in the program's log."""
        if self._closing.is_set():
            raise StorageError("the exposure log is closed; the service is shutting down")
        if len(self._waiting) >= self._max_pending:
            raise OverloadedError(f"{self._max_pending} exposures wait for the disk already; nothing more is recorded")
        self._waiting.append(exposure)
        if not self._has_some.is_set():
            self._has_some.set()

    def replay(self) -> Iterator[Exposure]:
        """See `ExposureLog.replay`."""
        for payload in self._files.replay():
            for line in payload.splitlines():
                yield _decode(line)

    def close(self) -> None:
        """See `ExposureLog.close`."""
        self._closing.set()
        self._has_some.set()
        self._gatherer.join()
        self._write_what_waits()
        self._files.close()

    def _gather(self) -> None:
        while self._has_some.wait() and not self._closing.wait(self._gathering_seconds):
            self._has_some.clear()
            self._write_what_waits()

    def _write_what_waits(self) -> None:
        with self._writing:
            batch = self._waiting[:]
            if batch:
                try:
                    self._files.append(b"\n".join(map(_encode, batch)))
                except StorageError as error:
                    logger.warning("%d exposures were lost: %s", len(batch), error)
                del self._waiting[: len(batch)]  # only now: what waits is bounded, also while the disk is slow


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Exposure).decode
