"""The engine as the service sees it: processes that answer, are kept alive, and can be swapped for another bundle's."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, cast

from asterism.core.bundle import Bundle
from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine.fleet import BatchWatcher, Fleet, Shared
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pending import Pending
from asterism.serving.engine.status import EngineStatus, ReplicaStatus
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.scheduling import Ticket

_LOOK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


async def _tell_nobody(bundle: Bundle) -> None:
    pass


class EnginePool:
    """Implements `EngineHandle` over child processes; for one event loop.

    One line of requests feeds all processes: whichever is idle takes the next batch, so none has more to do than
    another. What a batch holds, and how wide its beam is, `asterism.serving.scheduling` decides.
    """

    def __init__(
        self,
        factory_name: str,
        bundle: Bundle,
        unavailable: Callable[[], frozenset[str]],
        limits: EngineLimits | None = None,
    ) -> None:
        self._factory_name = factory_name
        self._limits = limits or EngineLimits()
        self._shared = Shared(unavailable, self._pump_soon, self._may_retry)
        self._fleet = Fleet(factory_name, bundle, self._limits, self._shared)
        self._numbers = itertools.count()
        self._swapping = asyncio.Lock()
        self._other_fleet: Fleet | None = None  # that loads, or ends, while a swap goes on
        self._is_stopping = False
        self._is_pumping = False

    def start(self) -> None:
        """See `EngineHandle.start`."""
        self._fleet.start()

    async def stop(self) -> None:
        """End the processes; requests that wait fail."""
        self._is_stopping = True
        await asyncio.gather(*(one.stop() for one in (self._fleet, self._other_fleet) if one is not None))

    @property
    def status(self) -> EngineStatus:
        """How the processes are."""
        fleet = self._fleet
        engines = tuple(
            ReplicaStatus(one.is_loaded, one.pid, one.starts, one.error, one.kept_bytes) for one in fleet.replicas
        )
        return EngineStatus(
            ready=fleet.is_ready,
            pid=engines[0].pid,
            starts=sum(one.starts for one in engines),
            error=fleet.error,
            bundle_version=fleet.version,
            widths=tuple(width for width in fleet.scheduler.widths if width),
            engines=engines,
            figures=fleet.scheduler.figures(),
        )

    @property
    def refusal(self) -> str | None:
        """Why no engine will ever load, where that is so."""
        return self._fleet.refusal

    @property
    def semantic_ids(self) -> dict[str, SemanticId]:
        """The semantic id of every item that the model knows; empty until it is loaded."""
        return self._fleet.semantic_ids

    def watch_batches(self, watcher: BatchWatcher) -> None:
        """Tell somebody of every batch from now on, also of other bundles'."""
        self._shared.watcher = watcher

    async def wait_changed(self, seconds: float) -> None:
        """Return when an engine became able or unable to answer, or after so long."""
        await self._shared.changes.wait(seconds)

    async def wait_ready(self) -> None:
        """See `EngineHandle.wait_ready`."""
        while not self._fleet.settled.is_set():  # another one may take its place meanwhile
            await self.wait_changed(_LOOK_SECONDS)
        if self._fleet.refusal is not None:
            raise ModelError(self._fleet.refusal)

    async def forget(self, digests: Sequence[str]) -> None:
        """See `EngineHandle.forget`; in the order of batches, so that none that is sent later finds anything."""
        for fleet in (self._fleet, self._other_fleet):
            for one in fleet.replicas if fleet is not None else ():
                one.forget(digests)

    async def swap(self, bundle: Bundle, switched: Callable[[Bundle], Awaitable[None]] = _tell_nobody) -> None:
        """Serve another bundle: load and measure it beside the served one, then switch; no request is lost.

        Batches under way are finished by the old engines, everything else goes to the new ones, of which `switched` is
        told first. Where one of these cannot be loaded `ModelError` says why, and the old ones go on. Memory holds both
        meanwhile. Where the bundle is served already only `switched` is told.
        """
        async with self._swapping:
            if self.serves(bundle):
                return await switched(bundle)
            self._other_fleet = fresh = Fleet(self._factory_name, bundle, self._limits, self._shared)
            fresh.start()
            try:
                await fresh.all_loaded()
                self._other_fleet, self._fleet = self._fleet, fresh
                self._shared.changes.tell()
                logger.info("bundle %s is served in place of %s", fresh.version, self._other_fleet.version)
                self._pump_soon()
                await switched(bundle)
                await self._other_fleet.drain()
            finally:  # also where the caller gives up; a batch that is cut off then goes to the new engines
                ending = asyncio.ensure_future(self._end(self._other_fleet))
                try:
                    await asyncio.shield(ending)
                finally:
                    await asyncio.wait({ending})  # also where it gives up only now

    async def _end(self, fleet: Fleet) -> None:
        await fleet.stop()
        fleet.let_go()
        if self._other_fleet is fleet:
            self._other_fleet = None

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """See `EngineClient.recommend`."""
        if not self._fleet.is_ready:
            raise ModelError(f"the engine is not ready: {self._fleet.error or 'it is loading'}")
        now = time.monotonic()
        if request.deadline is None:
            request = replace(request, deadline=now + self._limits.max_wait_seconds)
        deadline = cast(float, request.deadline)
        ticket = Ticket(next(self._numbers), now, deadline, request.count, background=request.background)
        self._fleet.scheduler.admit(ticket, now)
        pending = self._shared.pending.add(ticket, request)
        timer = asyncio.get_running_loop().call_at(deadline, self._expire, ticket)
        self._pump_soon()
        try:
            return await pending.answer
        except asyncio.CancelledError:
            self._withdraw(pending)
            raise
        finally:
            timer.cancel()
            self._shared.pending.remove(ticket)
            del pending  # which holds the error, whose traceback holds this frame

    @property
    def bundle(self) -> Bundle:
        """The one that is served."""
        return self._fleet.bundle

    def serves(self, bundle: Bundle) -> bool:
        """Whether it is the one that is served, and lies where that does."""
        served = self._fleet.bundle
        return (bundle.version, bundle.path.resolve()) == (served.version, served.path.resolve())

    @property
    def bundle_version(self) -> str:
        """See `EngineClient.bundle_version`."""
        return self._fleet.version

    def semantic_id(self, item_id: str) -> SemanticId | None:
        """See `EngineClient.semantic_id`; what a dead process told still holds, as the bundle is the same."""
        return self._fleet.semantic_ids.get(item_id)

    def _may_retry(self) -> bool:
        return self._fleet.is_ready and not self._is_stopping

    def _pump_soon(self) -> None:
        """Form a batch once everything that arrived at this moment is in the line."""
        if not self._is_pumping:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pumping = False
        self._fleet.pump()

    def _expire(self, ticket: Ticket) -> None:
        self._fleet.expire(ticket)

    def _withdraw(self, pending: Pending) -> None:
        self._fleet.scheduler.withdraw(pending.ticket)
        if pending.place is not None:
            pending.place.replica.withdraw(pending.place.batch, pending.place.row)
