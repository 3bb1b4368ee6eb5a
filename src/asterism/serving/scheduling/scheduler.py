"""Which requests are decoded next, together and how wide; which are refused. Pure: time is handed in.

Whoever comes while a batch is under way waits for its end and then for the end of their own batch. So no batch may
take more than half of the time that its requests were given: then both fit. Where the engines are hardly ever idle, a
batch at a beam that is not the narrowest has less, so that the beam narrows before a line forms: batches of n requests
take T = f + c n and settle where n have come meanwhile, at T = f / (1 - load), which seven lone requests' time bounds.
(A burst that meets an idle engine is no such load, nor is work that nobody waits for.) Of the widths at which all who
wait fit into that (or into a tenth of their time, where that is more) the widest is taken, else the narrowest. Where
even so not all fit into half of their time, the last ones wait for the next batch. A newcomer who could not be
answered in time even so is refused at once. The batching window is the batch under way; an idle engine waits for
company only where others come so fast that it is likely, and shortly. An engine that says it is nearly done is given
its next batch then, so that it does not wait for one in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from asterism.core.errors import OverloadedError
from asterism.serving.scheduling.cost_model import CostModel
from asterism.serving.scheduling.figures import EngineFigures, Tally, figures_of
from asterism.serving.scheduling.line import Line, Ticket
from asterism.serving.scheduling.widths import useful_widths

_SLICE: Final = 0.5  # of a request's time that its batch may take
_CALM_SHARE: Final = 0.1  # of a request's time that its batch may take before its beam narrows
_CALM: Final = 7.0  # times what a lone request takes, which it may take as well
_HARDLY_IDLE: Final = 6 / 7  # of lately, from which share of busy engines on this holds
_LATELY_SECONDS: Final = 0.1  # or twenty lone requests' time, where that is more
_LATELY: Final = 20.0
_RESERVE: Final = 0.1  # of a request's time kept for the way to the engine and back
_BACKGROUND_SHARE: Final = 4  # of the line's length: what nobody waits for in person finds it full so much earlier
_JUST_ARRIVED_SECONDS: Final = 2e-3  # after it waited for company
_COMPANY: Final = 4  # requests, from which on a batch's fixed cost is shared by enough of them
_WORTH_WAITING: Final = 1.5  # times what a batch takes whoever is in it
_JUST_NOW_SECONDS: Final = 0.05
_GAP_STEP: Final = 0.1  # of the way from the old mean gap between arrivals to the newest
_LONGEST_GAP_SECONDS: Final = 1.0
_NOTICE_STEP: Final = 0.1  # of the way from the old mean time between an engine's word and its reply to the newest
_LONGEST_NOTICE_SECONDS: Final = 5e-3  # that counts: a stall of the machine is none
_AHEAD_SHARE: Final = 0.1  # of what a batch may take, before whose beginning it may be sent


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What bounds memory, whatever the estimates say; of too many the newest is refused."""

    max_batch: int = 64
    max_waiting: int = 512
    gather_seconds: float = 0.0  # for which an idle engine waits for company at most
    max_background: int = 16  # of a batch: who comes meanwhile in person does not wait long for it
    max_beside: int = 4  # the same where somebody came in person just now, so that another one is likely


@dataclass(eq=False, slots=True)
class ScheduledBatch:
    """Requests that are decoded together."""

    number: int
    tickets: tuple[Ticket, ...]
    width: int
    started: float  # as is expected, where it is to begin after another one
    likely_end: float
    after: int | None = None  # the number of the batch that its engine is nearly done with
    nearly_done: float = math.inf  # since when it is that itself

    def begin(self, now: float) -> None:
        """That other one is answered."""
        self.likely_end += now - self.started
        self.started, self.after = now, None


class Dispatch(NamedTuple):
    """A batch for an engine that can take one, if any, and those who were dropped because their time has run out."""

    batch: ScheduledBatch | None
    late: list[Ticket]
    again: float | None = None  # when to ask once more, where those who wait are given time to become more


class Scheduler:
    """Decides for a number of equal engines, each of which decodes one batch at a time, and may hold its next one."""

    def __init__(
        self,
        widths: tuple[int, ...],
        costs: CostModel,
        limits: SchedulerLimits | None = None,
        *,
        line: Line | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`widths` as `width_ladder` gives them; line and tally are those of the model served before."""
        self.limits = limits or SchedulerLimits()
        self.widths = useful_widths(widths, costs, self.limits.max_batch)
        self.costs = costs
        self.engines = 0  # that live, idle or not
        self.line = line if line is not None else Line()
        self.tally = tally if tally is not None else Tally()
        self._running: dict[int, ScheduledBatch] = {}  # by number, also those that are to begin after another one
        self._next: dict[int, ScheduledBatch | None] = {}  # by the number of a batch that is nearly done
        self._newest_arrival = -math.inf
        self._newest_in_person = -math.inf
        self._gap = _LONGEST_GAP_SECONDS  # mean seconds between arrivals
        self._load, self._load_known = 0.0, -math.inf  # the share of engines that were busy lately; until when
        self._notice = 0.0  # mean seconds from an engine's word that it is nearly done to its being so
        self._numbers = 0

    @property
    def idle(self) -> int:
        """Engines that can be given a batch: they have none, or are nearly done with the only one."""
        return self.engines - self.busy + sum(one is None for one in self._next.values())

    @property
    def busy(self) -> int:
        """Engines with a batch."""
        return len(self._running) - sum(one is not None for one in self._next.values())

    def admit(self, ticket: Ticket, now: float) -> None:
        """Let a newcomer wait; raises `OverloadedError` where that is in vain."""
        gap = min(now - self._newest_arrival, _LONGEST_GAP_SECONDS)
        self._gap += _GAP_STEP * (gap - self._gap)
        self._newest_arrival = now
        if not ticket.background:
            self._newest_in_person = now
        if ticket.budget <= 0:
            self._refuse("the deadline has passed already")
        if len(self.line) >= self.limits.max_waiting // (_BACKGROUND_SHARE if ticket.background else 1):
            self._refuse(f"{len(self.line)} requests wait for the engine already", ticket.budget)
        if len(self.line) >= _COMPANY * self.idle:  # of fewer, an idle engine takes all at once
            over = self._finish(ticket, now) - self._due(ticket)
            if over > 0:
                self._refuse(f"the engine has no room before the deadline of {ticket.budget * 1000:.0f} ms", over)
        self.line.add(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Nobody waits for this one any more; it leaves the line."""
        self.tally.withdrawn += 1
        if ticket.waits:
            self.line.remove(ticket)

    def dispatch(self, now: float) -> Dispatch:
        """The next batch, where an engine can take one; who is in it left the line."""
        if self.idle <= 0 or not len(self.line):
            return Dispatch(None, self._drop(lambda one: one.deadline <= now))
        late = self._drop_hopeless(now)
        if not len(self.line):
            return Dispatch(None, late)
        if self._is_too_early(now):
            return Dispatch(None, late)
        until = self._gathers_until()
        if now < until:
            return Dispatch(None, late, until)
        share = self._share(now)
        while True:
            rows, width = self._choose(now, share)
            if 2 * rows >= share or len(self.line) == 1 or 2 * rows >= self._room():
                break
            if self._leader() is not None:
                return Dispatch(None, late)  # there is more time for all of them once an engine is idle
            late += self._drop_first()  # it has so little time left that many others would become late for it
            share = min(share, len(self.line))
        return Dispatch(self._begin(rows, width, now), late)

    def nearly_done(self, batch: ScheduledBatch, now: float) -> None:
        """The engine with this batch can be given the next one."""
        if batch.number in self._running and batch.after is None and batch.number not in self._next:
            self._next[batch.number] = None
            batch.nearly_done, batch.likely_end = now, now + self._notice

    def is_followed(self, batch: int) -> bool:
        """Whether somebody waits at the engine behind this batch."""
        return self._next.get(batch) is not None

    def finish(self, batch: ScheduledBatch, now: float, *, served: bool = True) -> None:
        """An engine is done with a batch; the estimate learns from one that was served."""
        self._note_load(now)
        self._running.pop(batch.number, None)
        following = self._next.pop(batch.number, None)
        if following is not None:
            following.begin(now)
        if served and batch.nearly_done <= now:
            notice = min(now - batch.nearly_done, _LONGEST_NOTICE_SECONDS)
            self._notice += _NOTICE_STEP * (notice - self._notice)
        if served:
            self.costs.observe(len(batch.tickets), self._effective(batch.width, batch.tickets), now - batch.started)

    def figures(self) -> EngineFigures:
        """Everything an operator may want to see."""
        return figures_of(
            self.tally,
            waiting=len(self.line),
            under_way=sum(len(one.tickets) for one in self._running.values()),
            speed=self.costs.speed,
            spread=self.costs.spread,
            lone_ms=1000 * self.costs.seconds(1, self.widths[0]),
            full_ms=1000 * self.costs.seconds(self.limits.max_batch, self.widths[-1]),
        )

    def _gathers_until(self) -> float:
        """When those who wait have waited long enough for company: hardly longer than the work that it saves takes."""
        seconds = min(self.limits.gather_seconds, _WORTH_WAITING * self.costs.fixed_seconds)
        if len(self.line) >= _COMPANY * self.idle or self._gap >= seconds:
            return -math.inf
        took = self.costs.likely_seconds(_COMPANY, self._narrowest())
        return min(one.arrived + min(seconds, (one.budget - took) / 2) for one in self.line.tickets)

    def _share(self, now: float) -> int:
        """How many an engine may take: its part of the line, and only some of those for whom nobody waits in person."""
        just_now = now - self._newest_in_person < _JUST_NOW_SECONDS
        background = self.limits.max_beside if just_now else self.limits.max_background
        return min(math.ceil(len(self.line) / self.idle), self.line.in_person() + background)

    def _room(self) -> int:
        """How many fit into half of the first one's time."""
        return self.costs.most_rows(self._narrowest(), self._slice(self.line.tickets[0]), self.limits.max_batch)

    def _narrowest(self) -> int:
        return self._effective(self.widths[-1], self.line.tickets)

    @staticmethod
    def _effective(width: int, tickets: list[Ticket] | tuple[Ticket, ...]) -> int:
        """A beam is never narrower than the items that are wanted of it."""
        return max(width, max((one.count for one in tickets), default=1))

    @staticmethod
    def _due(ticket: Ticket) -> float:
        """When its batch should be done."""
        return ticket.deadline - _RESERVE * ticket.budget

    @staticmethod
    def _slice(ticket: Ticket) -> float:
        return (_SLICE - _RESERVE / 2) * ticket.budget

    def _leader(self) -> ScheduledBatch | None:
        """The batch that the next one is to begin after: none where an engine is idle, else the first to end."""
        if self.busy < self.engines:
            return None
        nearly_done = (self._running[number] for number, following in self._next.items() if following is None)
        return min(nearly_done, key=lambda one: one.likely_end)

    def _begins(self, now: float) -> float:
        """When what is given to an engine now begins, where one can be given it."""
        leader = self._leader() if self.idle > 0 else None
        return now if leader is None else max(now, leader.likely_end)

    def _is_too_early(self, now: float) -> bool:
        """Whether who comes meanwhile would wait for longer than an engine's pause is worth, with so little time."""
        pause = self._begins(now) - now
        return pause > 0 and pause > _AHEAD_SHARE * min(map(self._slice, self.line.tickets))

    def _limit(self, ticket: Ticket, now: float, begins: float) -> float:
        """The seconds that a batch with this ticket may take."""
        left = self._due(ticket) - begins
        if len(self.line) == 1 and now - ticket.arrived < self.limits.gather_seconds + _JUST_ARRIVED_SECONDS:
            return left  # nobody else is there, or came: it may take all its time
        return min(left, self._slice(ticket) - (begins - now))  # who comes only then waits for so much longer

    def _calm(self, tickets: list[Ticket], now: float) -> float:
        """The seconds that all who wait may take at a beam that is not the narrowest, whatever their time allows."""
        self._note_load(now)
        if self._load < _HARDLY_IDLE or all(one.background for one in tickets):
            return math.inf
        return max(_CALM_SHARE * min(one.budget for one in tickets), _CALM * self._lone())

    def _note_load(self, now: float) -> None:
        """Bring the share of busy engines up to date, which forgets exponentially; before it changes."""
        passed = now - self._load_known
        share = self.busy / max(1, self.engines)
        self._load += (share - self._load) * -math.expm1(-passed / max(_LATELY_SECONDS, _LATELY * self._lone()))
        self._load_known = now

    def _lone(self) -> float:
        return self.costs.likely_seconds(1, self.widths[0])

    def _finish(self, ticket: Ticket, now: float) -> float:
        """When a newcomer would be answered if all were served as narrow as allowed."""
        ends = [one.likely_end for one in self._running.values() if self._next.get(one.number) is None]
        start = self._begins(now) if self.idle > 0 or not ends else max(now, min(ends))
        width = max(self.widths[-1], ticket.count)
        engines = max(1, self.engines)
        rows = max(1, self.costs.most_rows(width, self._slice(ticket), self.limits.max_batch))
        waves = 1 + self.line.before(ticket) // (rows * engines)
        return start + waves * self.costs.likely_seconds(rows, width)  # later comers will fill its batch

    def _refuse(self, why: str, seconds: float | None = None) -> None:
        self.tally.shed += 1
        again = "" if seconds is None else f"; send it again in {max(1, math.ceil(1000 * seconds))} ms"
        raise OverloadedError(why + again, retry_after_seconds=seconds)

    def _drop(self, wanted: Callable[[Ticket], bool]) -> list[Ticket]:
        dropped = self.line.take(wanted)
        self.tally.late += len(dropped)
        return dropped

    def _drop_first(self) -> list[Ticket]:
        first = self.line.tickets[0]
        return self._drop(lambda one: one is first)

    def _drop_hopeless(self, now: float) -> list[Ticket]:
        """Drop whom no batch can answer in time any more; where that is all of them, only the expired.

        Of those the last one is then tried all the same, since the estimate may be wrong, and would never change.
        """
        least = self.costs.seconds(1, self.widths[-1])
        if any(one.deadline > now + least for one in self.line.tickets):
            return self._drop(lambda one: one.deadline <= now + least)
        return self._drop(lambda one: one.deadline <= now)

    def _choose(self, now: float, share: int) -> tuple[int, int]:
        """How many of the first `share` tickets are taken, and how wide."""
        tickets = self.line.tickets[: min(share, self.limits.max_batch)]
        batches = math.ceil(share / self.limits.max_batch)  # that those who wait will take
        begins = self._begins(now)
        limit = min(self._limit(one, now, begins) for one in tickets) / batches
        calm = min(limit, self._calm(tickets, now) / batches)
        for width in self.widths:
            if self.costs.most_rows(self._effective(width, tickets), calm, len(tickets)) == len(tickets):
                return len(tickets), width
        narrowest = self._effective(self.widths[-1], tickets)
        width = next(one for one in self.widths if self._effective(one, tickets) == narrowest)
        rows, limit = 0, math.inf
        for one in tickets:
            limit = min(limit, self._limit(one, now, begins))
            if self.costs.most_rows(narrowest, limit, rows + 1) <= rows:
                break
            rows += 1
        return max(1, rows), width

    def _begin(self, rows: int, width: int, now: float) -> ScheduledBatch:
        chosen = {id(one) for one in self.line.tickets[:rows]}
        tickets = tuple(self.line.take(lambda one: id(one) in chosen))
        self._note_load(now)
        self._numbers += 1
        likely = self.costs.likely_seconds(rows, self._effective(width, tickets))
        leader = self._leader()
        batch = ScheduledBatch(self._numbers, tickets, width, now, now + likely)
        if leader is not None:
            batch.begin(max(now, leader.likely_end))
            batch.after = leader.number
            self._next[leader.number] = batch
        self._running[batch.number] = batch
        self.tally.count_batch(rows, width)
        return batch
