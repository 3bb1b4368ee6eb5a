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
    seed: int = 0,
) -> Seen:
    """Seconds of load; `noise` is the deviation of the logarithm of a batch's time."""
    random = np.random.default_rng(seed)
    scheduler = scheduler_for(shape, widths, engines, gather)
    arrivals = np.cumsum(random.exponential(1 / rate, int(rate * seconds))).tolist()
    ends: list[tuple[float, int, ScheduledBatch | None]] = []  # None: nothing ended, but it is time to ask again
    seen = Seen(sent=len(arrivals))

    numbers = itertools.count(1)

    def pump(now: float) -> None:
        while True:
            batch, late, again = scheduler.dispatch(now)
            seen.late += len(late)
            if again is not None:
                heapq.heappush(ends, (again, -next(numbers), None))
            if batch is None:
                return
            width = max(batch.width, COUNT)
            took = shape.seconds(len(batch.tickets), width) * float(np.exp(noise * random.normal()))
            seen.busy_seconds += took
            heapq.heappush(ends, (now + took, batch.number, batch))
            seen.largest_batch = max(seen.largest_batch, len(batch.tickets))

    for number, now in enumerate([*arrivals, float("inf")]):
        while ends and ends[0][0] <= now:
            end, _, batch = heapq.heappop(ends)
            if batch is None:
                pump(end)
                continue
            scheduler.finish(batch, end)
            seen.latencies += [end - one.arrived for one in batch.tickets]
            seen.too_late += sum(end > one.deadline for one in batch.tickets)
            seen.degraded += len(batch.tickets) * (batch.width < widths[0])
            pump(end)
        if now < float("inf"):
            try:
                scheduler.admit(Ticket(number, now, now + budget, COUNT), now)
            except OverloadedError:
                seen.shed += 1
            pump(now)
            seen.longest_line = max(seen.longest_line, len(scheduler.line))
    assert len(seen.latencies) + seen.shed + seen.late == seen.sent, "every request has one end"
    return seen
