"""The exposure log: what was shown to whom, and where it came from."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from asterism.core.errors import StorageError
from asterism.stores.event_log import needles_of
from asterism.stores.group_commit import GroupCommit
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

    def forget(self, user_id: str) -> Future[int]:
        """Done when no exposure of the user is on the disk: how many there were; fails with `StorageError`."""
        ...

    def close(self) -> None:
        """Write what waits, then let go of the files."""
        ...


class LocalExposureLog:
    """Implements `ExposureLog` on local segment files; the last instant before a crash may be missing."""

    def __init__(self, folder: Path, *, segment_bytes: int = 64 << 20, max_pending: int = 10_000) -> None:
        """Open or create the log; raises `StorageError` where it is damaged or in use."""
        self._files = SegmentFiles(folder, segment_bytes)
        self._group: GroupCommit[Exposure | str, Any] = GroupCommit(self._commit, "exposure-log", max_pending)

    def record(self, exposure: Exposure) -> None:
        """See `ExposureLog.record`; one that cannot be written is named in the program's log."""
        self._group.submit(exposure).add_done_callback(partial(_warn_if_lost, exposure.attribution_id))

    def replay(self) -> Iterator[Exposure]:
        """See `ExposureLog.replay`."""
        for payload in self._files.replay():
            for line in filter(bytes.strip, payload.splitlines()):
                raw = json.loads(line)
                chances = raw.get("propensities")
                tuples = {
                    "item_ids": tuple(raw["item_ids"]),
                    "propensities": None if chances is None else tuple(chances),
                }
                yield Exposure(**{**raw, **tuples})

    def forget(self, user_id: str) -> Future[int]:
        """See `ExposureLog.forget`."""
        return self._group.submit(user_id)

    def close(self) -> None:
        """See `ExposureLog.close`."""
        self._group.close()
        self._files.close()

    def _commit(self, entries: list[Exposure | str]) -> list[Any]:
        """In order; a run of exposures is written together."""
        results: list[Any] = []
        for kind, some in groupby(entries, type):
            run = list(some)
            try:
                results += [self._erase(one) for one in run] if kind is str else self._write(run)
            except StorageError as error:
                results += [error] * (len(run) if kind is not str else 1)
        return results

    def _write(self, exposures: list[Any]) -> list[None]:
        self._files.append(b"\n".join(json.dumps(dataclasses.asdict(one)).encode() for one in exposures))
        return [None] * len(exposures)

    def _erase(self, user_id: Any) -> int:
        needles = needles_of(user_id)
        return self._files.blank(
            lambda line, _: any(one in line for one in needles) and json.loads(line)["user_id"] == user_id
        )


def _warn_if_lost(attribution_id: str, written: Future[None]) -> None:
    error = written.exception()
    if error is not None:
        logger.warning("exposure %s was lost: %s", attribution_id, error)
