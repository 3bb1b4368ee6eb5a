"""One of the engines that serve a bundle: its process is kept alive, and works on one batch after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from asterism.core.errors import ModelError
from asterism.serving.engine import messages
from asterism.serving.engine.child import EngineChild
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.ports import EngineRequest
from asterism.serving.scheduling import ScheduledBatch

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 10.0
_HEALTHY_AFTER_SECONDS: Final = 30.0

logger = logging.getLogger(__name__)


class ReplicaListener(Protocol):
    """Hears what becomes of a replica."""

    def on_loaded(self, replica: Replica, loaded: messages.Loaded) -> None:
        """It can take a batch."""
        ...

    def on_nearly_done(self, replica: Replica, batch: ScheduledBatch) -> None:
        """It can be given the batch that it is to begin after this one."""
        ...

    def on_reply(self, replica: Replica, batch: ScheduledBatch, reply: messages.Reply) -> None:
        """It is done with a batch, and can take another."""
        ...

    def on_down(self, was_loaded: bool, batches: Sequence[ScheduledBatch], reason: str) -> None:
        """It is gone, and what it held with it."""
        ...


class Replica:
    """A process that dies or hangs is started again.

    Only one that refuses to load before it ever was loaded is left alone: it would refuse again.
    """

    def __init__(self, start: messages.Start, limits: EngineLimits, listener: ReplicaListener) -> None:
        self._start = start
        self._limits = limits
        self._listener = listener
        self._child: EngineChild | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_ending = False
        self._batches: deque[ScheduledBatch] = deque()  # that under way, and the one that it begins next
        self._hang_timer: asyncio.TimerHandle | None = None
        self._left_out: frozenset[str] = frozenset()  # items that the process was told to leave out
        self._hung: str | None = None  # why the process was killed
        self._was_ever_loaded = False
        self.tried = asyncio.Event()  # loaded once, or failed once
        self.is_loaded = False
        self.has_refused = False
        self.starts = 0
        self.error: str | None = None
        self.kept_bytes: dict[str, int] = {}

    @property
    def pid(self) -> int | None:
        """The number of the process, while there is one."""
        return self._child.pid if self._child is not None else None

    @property
    def is_idle(self) -> bool:
        """Whether it could take a batch now."""
        return self.is_loaded and not self._batches

    def holds(self, batch: int) -> bool:
        """Whether it has a batch, by its number, that it has not answered."""
        return any(one.number == batch for one in self._batches)

    def start(self) -> None:
        """Start the process, and from now on keep it alive."""
        self._keeper = asyncio.create_task(self._keep_alive(), name="engine")

    async def stop(self) -> None:
        """End the process; what ends is told so once, and ends also where who waits for it gives up."""
        if self._keeper is not None:
            if not self._is_ending:
                self._is_ending = True
                self._keeper.cancel()
            await asyncio.wait({self._keeper})

    def begin(self, batch: ScheduledBatch, requests: Sequence[EngineRequest], unavailable: frozenset[str]) -> None:
        """Send a batch to the process, which is idle, or nearly done with the one before."""
        assert self._child is not None
        if unavailable != self._left_out:
            self._child.send(messages.Availability(unavailable - self._left_out, self._left_out - unavailable))
            self._left_out = unavailable
        self._batches.append(batch)
        self._child.send(messages.Batch(batch.number, tuple(requests), batch.width or None))
        if len(self._batches) == 1:
            self._watch()

    def forget(self, digests: Sequence[str]) -> None:
        """Tell the process, if there is one, to drop what it keeps of users, by their `digest_of`."""
        if self._child is not None and self.is_loaded:
            self._child.send(messages.Forget(tuple(digests)))

    def withdraw(self, batch: int, row: int) -> None:
        """Tell the process that nobody waits for a row any more, where it still has the batch."""
        if self._child is not None and self.holds(batch):
            self._child.send(messages.Withdrawn(batch, (row,)))

    def _watch(self) -> None:
        self._hang_timer = asyncio.get_running_loop().call_later(self._limits.batch_timeout_seconds, self._on_hang)

    def _on_hang(self) -> None:
        if self._child is not None:
            waited = self._limits.batch_timeout_seconds
            self._hung = f"the engine process {self._child.pid} did not answer within {waited:g} s"
            self._child.kill()

    async def _keep_alive(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            self._hung = None
            try:
                await self._live()
            except (OSError, ModelError) as error:
                self.error = self._hung or str(error)
            except Exception as error:  # whatever it is, an engine that nobody starts again is lost for good
                logger.exception("an engine's process was given up")
                self.error = f"{type(error).__name__}: {error}"
            finally:
                await self._end()
            if self.has_refused:
                return
            logger.error("%s; the engine is started again in %.1f s", self.error, pause_seconds)
            if time.monotonic() - started > _HEALTHY_AFTER_SECONDS:
                pause_seconds = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    async def _live(self) -> None:
        """Start the process and take its replies until it fails; raises `ModelError` or `OSError`."""
        self._child = child = await EngineChild.spawn(self._start)
        self.starts += 1
        loaded = await child.loaded(self._limits.load_timeout_seconds)
        if loaded.refusal is not None:
            self.has_refused = not self._was_ever_loaded  # what was loaded once, from the same files, may be again
            raise ModelError(f"the engine cannot be loaded: {loaded.refusal}")
        self._was_ever_loaded = self.is_loaded = True
        self.error = None
        self.tried.set()
        self._listener.on_loaded(self, loaded)
        while True:
            reply = await child.reply()
            if reply is None:
                if self._batches:
                    self._listener.on_nearly_done(self, self._batches[0])
                continue
            if not self._batches or reply.batch != self._batches[0].number:
                raise ModelError(f"the engine process {child.pid} answered batch {reply.batch}, which it was not given")
            self.kept_bytes = reply.kept_bytes
            self._stop_watching()
            batch = self._batches.popleft()
            if self._batches:
                self._watch()
            self._listener.on_reply(self, batch, reply)

    def _stop_watching(self) -> None:
        if self._hang_timer is not None:
            self._hang_timer.cancel()

    async def _end(self) -> None:
        was_loaded, self.is_loaded = self.is_loaded, False
        self._stop_watching()
        batches, self._batches = self._batches, deque()
        child, self._child = self._child, None
        self._left_out = frozenset()
        self.tried.set()
        self._listener.on_down(was_loaded, tuple(batches), self.error or "the engine was stopped")
        if child is not None:
            ending = asyncio.ensure_future(child.end(at_once=self.error is not None))
            try:
                await asyncio.shield(ending)
            finally:
                await ending  # also where `stop` comes in between: no process is left behind
