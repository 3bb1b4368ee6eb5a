"""The engines that serve one bundle, and the scheduler that feeds them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from asterism.core.bundle import Bundle
from asterism.core.errors import ModelError, OverloadedError
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine import messages
from asterism.serving.engine.alarm import Alarm
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pending import PendingRequests, Place
from asterism.serving.engine.replica import Replica
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.scheduling import (
    CostModel,
    CostSample,
    Line,
    ScheduledBatch,
    Scheduler,
    SchedulerLimits,
    Tally,
    Ticket,
    width_ladder,
)

NO_BEAM = (0,)


class Shared:
    """What outlives a swap of models: who waits, in which order, and what was counted."""

    def __init__(
        self,
        unavailable: Callable[[], frozenset[str]],
        pump: Callable[[], None],
        may_retry: Callable[[], bool],
    ) -> None:
        self.unavailable = unavailable
        self.pump = pump  # ask the fleet that serves now to go on
        self.may_retry = may_retry  # whether that fleet has an engine for those whose engine died
        self.line = Line()
        self.tally = Tally()
        self.pending = PendingRequests()
        self.changes = Changes()
        self.watcher: BatchWatcher | None = None


class BatchWatcher(Protocol):
    """Is told of every batch."""

    def begun(self, batch: ScheduledBatch, requests: Sequence[EngineRequest]) -> None:
        """It was given to an engine."""
        ...

    def ended(self, batch: ScheduledBatch, error: str | None) -> None:
        """It was answered, or failed."""
        ...


class Changes:
    """Wakes whoever waits for an engine to become able or unable to answer."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Something changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return at the next change, or after so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._next.wait(), seconds)


class Fleet:
    """Implements `ReplicaListener`. The first engine that is loaded tells what batches cost, for all are equal."""

    def __init__(self, factory: str, bundle: Bundle, limits: EngineLimits, shared: Shared) -> None:
        self.bundle = bundle
        path, self.version = str(bundle.path), bundle.version
        self.replicas = [
            Replica(messages.Start(factory, path, self.version, limits.min_beam, limits.core_of(number)), limits, self)
            for number in range(limits.engines)
        ]
        self.semantic_ids: dict[str, SemanticId] = {}
        self.settled = asyncio.Event()  # an engine is loaded, or has refused for good
        self._limits = limits
        self._shared = shared
        self._was_ever_loaded = False
        self._drained = asyncio.Event()
        self._is_retired = False
        self._again = Alarm(shared.pump)
        self.scheduler = self._schedule(NO_BEAM, ())

    @property
    def is_ready(self) -> bool:
        """Whether an engine can answer."""
        return self.scheduler.engines > 0

    @property
    def refusal(self) -> str | None:
        """Why no engine will ever load."""
        refused = [one.error for one in self.replicas if one.has_refused]
        return refused[0] if refused and not self._was_ever_loaded else None

    @property
    def error(self) -> str | None:
        """Why an engine is down, where that is known."""
        return next((one.error for one in self.replicas if one.error is not None), None)

    def start(self) -> None:
        """Start all engines."""
        for one in self.replicas:
            one.start()

    async def stop(self) -> None:
        """End all engines."""
        await asyncio.gather(*(one.stop() for one in self.replicas))

    def let_go(self) -> None:
        """Hold nothing of the bundle any more: what points at each other here is hardly ever collected."""
        self.semantic_ids = {}
        self.replicas.clear()

    async def all_loaded(self) -> None:
        """Return once every engine is loaded; raises `ModelError` as soon as one failed."""
        for one in self.replicas:
            await one.tried.wait()
            if not one.is_loaded:
                raise ModelError(one.error or "the engine was stopped")

    async def drain(self) -> None:
        """Take no new batch; return once the engines have finished what they hold."""
        self._is_retired = True
        self._check_drained()
        await self._drained.wait()

    def pump(self) -> None:
        """Give waiting requests to idle engines."""
        while not self._is_retired and len(self._shared.line):
            batch, late, again = self.scheduler.dispatch(time.monotonic())
            for one in late:
                self._fail_late(one)
            if again is not None:
                self._again.set(again)
            if batch is None:
                return
            self._begin(self._replica_for(batch), batch)

    def expire(self, ticket: Ticket) -> None:
        """A request's time has run out: out of the line with it, and out of its batch where others wait."""
        pending = self._shared.pending.of(ticket)
        if pending is None or pending.answer.done():
            return
        if ticket.waits:
            self.scheduler.line.remove(ticket)
            self._shared.tally.late += 1
            self._fail_late(ticket)
        elif pending.place is not None:
            place = pending.place
            if len(self.scheduler.line) or self.scheduler.is_followed(place.batch):
                place.replica.withdraw(place.batch, place.row)

    def on_loaded(self, replica: Replica, loaded: messages.Loaded) -> None:
        """See `ReplicaListener.on_loaded`."""
        if not self._was_ever_loaded:
            self._was_ever_loaded = True
            self.semantic_ids = loaded.semantic_ids
            widths = NO_BEAM if loaded.beam is None else width_ladder(loaded.beam, self._limits.min_beam)
            self.scheduler = self._schedule(widths, loaded.samples)
        self.scheduler.engines += 1
        self.settled.set()
        self._shared.changes.tell()
        self._shared.pump()

    def on_nearly_done(self, replica: Replica, batch: ScheduledBatch) -> None:
        """See `ReplicaListener.on_nearly_done`: what it begins next is there when it has answered."""
        self.scheduler.nearly_done(batch, time.monotonic())
        self.pump()

    def on_reply(self, replica: Replica, batch: ScheduledBatch, reply: messages.Reply) -> None:
        """See `ReplicaListener.on_reply`."""
        served = reply.error is None and any(one is not None for one in reply.answers)
        self.scheduler.finish(batch, time.monotonic(), served=served)
        if self._shared.watcher is not None:
            self._shared.watcher.ended(batch, reply.error)
        if reply.error is not None:
            self._fail(batch.tickets, reply.error)
        elif len(reply.answers) == len(batch.tickets):
            self.pump()  # first the engine, which has nothing to do, then those who have their answers
            self._answer(batch, reply.answers)
        else:
            self._fail(batch.tickets, f"{len(reply.answers)} answers came to {len(batch.tickets)} requests")
        self._check_drained()
        self._shared.pump()

    def on_down(self, was_loaded: bool, batches: Sequence[ScheduledBatch], reason: str) -> None:
        """See `ReplicaListener.on_down`; requests that lost their engine try another one once, in what time is left."""
        self.scheduler.engines -= was_loaded
        for batch in batches:
            self.scheduler.finish(batch, time.monotonic(), served=False)
            if self._shared.watcher is not None:
                self._shared.watcher.ended(batch, reason)
            again = [one for one in batch.tickets if one.lives > 0 and self._shared.may_retry()]
            self._fail([one for one in batch.tickets if one not in again], reason)
            for one in again:
                one.lives -= 1
                if (pending := self._shared.pending.of(one)) is not None and not pending.answer.done():
                    pending.place = None
                    self.scheduler.line.add(one)
        if not self.is_ready:
            self.settled.clear()
            if not self._shared.may_retry():
                self._fail(self.scheduler.line.take(lambda _: True), reason)
        if self.refusal is not None:
            self.settled.set()
        self._shared.changes.tell()
        self._check_drained()
        self._shared.pump()

    def _replica_for(self, batch: ScheduledBatch) -> Replica:
        after = batch.after
        return next(one for one in self.replicas if (one.is_idle if after is None else one.holds(after)))

    def _begin(self, replica: Replica, batch: ScheduledBatch) -> None:
        requests = []
        for row, ticket in enumerate(batch.tickets):
            pending = self._shared.pending.of(ticket)
            assert pending is not None  # who leaves is taken out of the line first
            pending.place = Place(replica, batch.number, row)
            requests.append(pending.request)
        replica.begin(batch, requests, self._shared.unavailable())
        if self._shared.watcher is not None:
            self._shared.watcher.begun(batch, requests)

    def _answer(self, batch: ScheduledBatch, answers: Sequence[EngineAnswer | None]) -> None:
        tally = self._shared.tally
        for ticket, answer in zip(batch.tickets, answers, strict=True):
            if answer is None:
                if self._fail_late(ticket):
                    tally.late += 1
                continue
            pending = self._shared.pending.of(ticket)
            if pending is None:
                continue
            told = self._told(batch.width, pending.request.count, answer)
            if self._shared.pending.resolve(ticket, told):
                tally.answered += 1
                tally.degraded += told.degraded

    def _told(self, width: int, count: int, answer: EngineAnswer) -> EngineAnswer:
        """With who answered, and how wide: the batch's width, or what was asked for where that is more."""
        beam = max(width, count) if width else None
        degraded = beam is not None and beam < self.scheduler.widths[0]
        return EngineAnswer(answer.items, self.version, beam, degraded)

    def _fail(self, tickets: Sequence[Ticket], reason: str) -> None:
        self._shared.tally.failed += self._shared.pending.fail(tickets, ModelError(reason))

    def _fail_late(self, ticket: Ticket) -> int:
        error = OverloadedError(f"the engine was busy for longer than {ticket.budget:.3g} s")
        return self._shared.pending.fail([ticket], error)

    def _check_drained(self) -> None:
        if self._is_retired and self.scheduler.busy == 0:
            self._drained.set()

    def _schedule(self, widths: tuple[int, ...], samples: Sequence[CostSample]) -> Scheduler:
        limits = SchedulerLimits(self._limits.max_batch, self._limits.max_pending, self._limits.gather_seconds)
        return Scheduler(widths, CostModel(samples), limits, line=self._shared.line, tally=self._shared.tally)
