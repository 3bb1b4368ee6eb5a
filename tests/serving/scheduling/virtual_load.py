"""An open loop in virtual time: Poisson arrivals, engines whose batches take what a shape says, no clock."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np

from asterism.core.errors import OverloadedError
from asterism.serving.scheduling import CostModel, CostSample, ScheduledBatch, Scheduler, SchedulerLimits, Ticket
from asterism.serving.scheduling.cost_model import CostShape

COUNT = 10


@dataclass
class Seen:
    """What became of the requests."""

    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    too_late: int = 0
    shed: int = 0
    late: int = 0
    degraded: int = 0
    longest_line: int = 0
    largest_batch: int = 0
    busy_seconds: float = 0.0

    def share(self, name: str) -> float:
        return int(getattr(self, name)) / self.sent

    @property
    def answered(self) -> float:
        return len(self.latencies) / self.sent

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share))


def scheduler_for(shape: CostShape, widths: tuple[int, ...], engines: int = 1, gather: float = 0.0) -> Scheduler:
    samples = [CostSample(rows, width, shape.seconds(rows, width)) for rows in (1, 8, 32) for width in widths]
    found = Scheduler(widths, CostModel(samples), SchedulerLimits(gather_seconds=gather))
    found.engines = engines
    return found


@dataclass
class Engines:
    """What becomes of batches, and when. An engine that is idle begins one `way` seconds after it was sent.

    `notice` seconds before it is done, where that is more than nothing, it says so, and what is sent then begins when
    it is.
    """

    shape: CostShape
    noise: float
    way: float
    notice: float
    random: np.random.Generator
    busy_seconds: float = 0.0
    #: When, the number of a batch, whether it is done or only nearly, the batch; without one it is time to ask again.
    events: list[tuple[float, int, bool, ScheduledBatch | None]] = field(default_factory=list)
    _ahead: dict[int, ScheduledBatch] = field(default_factory=dict)

    def take(self, batch: ScheduledBatch, now: float) -> None:
        if batch.after is None:
            self._begin(batch, now + self.way)
        else:
            assert batch.after not in self._ahead, "one follows, and no more"
            self._ahead[batch.after] = batch

    def done(self, batch: ScheduledBatch, now: float) -> None:
        following = self._ahead.pop(batch.number, None)
        if following is not None:
            self._begin(following, now)

    def _begin(self, batch: ScheduledBatch, now: float) -> None:
        took = self.shape.seconds(len(batch.tickets), max(batch.width, COUNT))
        took *= float(np.exp(self.noise * self.random.normal()))
        self.busy_seconds += took
        if self.notice > 0:
            heapq.heappush(self.events, (now + max(0.0, took - self.notice), batch.number, False, batch))
        heapq.heappush(self.events, (now + took, batch.number, True, batch))


def run(
    shape: CostShape,
    widths: tuple[int, ...],
    rate: float,
    *,
    seconds: float = 20.0,
    budget: float = 0.05,
    engines: int = 1,
    noise: float = 0.0,
    gather: float = 0.0,
    way: float = 0.0,
    notice: float = 0.0,
    seed: int = 0,
) -> Seen:
    """Seconds of load; `noise` is the deviation of the logarithm of a batch's time."""
    random = np.random.default_rng(seed)
    scheduler = scheduler_for(shape, widths, engines, gather)
    arrivals = np.cumsum(random.exponential(1 / rate, int(rate * seconds))).tolist()
    load = Load(scheduler, Engines(shape, noise, way, notice, random), Seen(sent=len(arrivals)))
    for number, now in enumerate(arrivals):
        load.pass_until(now)
        load.arrive(Ticket(number, now, now + budget, COUNT), now)
    load.pass_until(float("inf"))
    seen = load.seen
    assert len(seen.latencies) + seen.shed + seen.late == seen.sent, "every request has one end"
    seen.busy_seconds = load.engines.busy_seconds
    return seen


class Load:
    """Scheduler and engines, to whom time is told."""

    def __init__(self, scheduler: Scheduler, engines: Engines, seen: Seen) -> None:
        self.engines, self.seen = engines, seen
        self._scheduler = scheduler
        self._numbers = itertools.count(1)

    def arrive(self, ticket: Ticket, now: float) -> None:
        try:
            self._scheduler.admit(ticket, now)
        except OverloadedError:
            self.seen.shed += 1
        self._pump(now)
        self.seen.longest_line = max(self.seen.longest_line, len(self._scheduler.line))

    def pass_until(self, now: float) -> None:
        while self.engines.events and self.engines.events[0][0] <= now:
            end, _, is_done, batch = heapq.heappop(self.engines.events)
            if batch is not None and is_done:
                self._finish(batch, end)
            elif batch is not None:
                self._scheduler.nearly_done(batch, end)
            self._pump(end)

    def _pump(self, now: float) -> None:
        while True:
            batch, late, again = self._scheduler.dispatch(now)
            self.seen.late += len(late)
            if again is not None:
                heapq.heappush(self.engines.events, (again, -next(self._numbers), False, None))
            if batch is None:
                return
            self.engines.take(batch, now)
            self.seen.largest_batch = max(self.seen.largest_batch, len(batch.tickets))

    def _finish(self, batch: ScheduledBatch, end: float) -> None:
        self._scheduler.finish(batch, end)
        self.engines.done(batch, end)
        self.seen.latencies += [end - one.arrived for one in batch.tickets]
        self.seen.too_late += sum(end > one.deadline for one in batch.tickets)
        self.seen.degraded += len(batch.tickets) * (batch.width < self._scheduler.widths[0])
