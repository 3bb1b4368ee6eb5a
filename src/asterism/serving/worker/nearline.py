"""The nearline loop: feedback makes a visitor's slate stale, and this makes the next one before it is asked for.

What cannot be made in time is left out: the visitor's next request then asks the engine itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest
from typing import Final, NamedTuple

from asterism.core.clock import Clock
from asterism.core.errors import AsterismError, OverloadedError
from asterism.core.records import POSITIVE_ACTIONS
from asterism.serving.features.asking import engine_request
from asterism.serving.ports import EngineHandle
from asterism.serving.slate_inputs import LastSlate, SlateInput
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.visitors import Visitors, Waiting
from asterism.stores.slates import Slate
from asterism.stores.user_state import NEGATIVE_ACTIONS, UserState, Visitor

logger = logging.getLogger(__name__)

_HEARD: Final = POSITIVE_ACTIONS | NEGATIVE_ACTIONS  # an impression changes no state
_LOOKS: Final = 20  # for an event that is on the bus, and in the gateway's state within the same millisecond
_LOOK_SECONDS: Final = 0.003
_LONGEST_LOOKS_SECONDS: Final = 1.0  # for all of them, where each takes long: the others' next slates wait meanwhile


@dataclass(slots=True)
class Wish:
    """A visitor whose slate is stale."""

    arrival: Arrival  # their newest event
    events: int = 0  # that came since their last slate
    since: float = field(default_factory=time.monotonic)


class StaleSlates:
    """Visitors who wait for a slate, each once, the most active first; of too many, the least active leaves."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._wishes: dict[Visitor, Wish] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, batch: Sequence[Arrival]) -> None:
        """Take in events; those that change no state are passed over."""
        for arrival in batch:
            visitor = Visitor(arrival.event.user_id, arrival.event.session_id).key
            if visitor is None or arrival.event.action not in _HEARD:
                continue
            wish = self._wishes.setdefault(visitor, Wish(arrival))
            wish.arrival, wish.events = arrival, wish.events + 1
        if len(self._wishes) > self._most:
            for visitor in sorted(self._wishes, key=self._rank)[self._most :]:
                del self._wishes[visitor]
                self.dropped += 1

    def forget(self, visitor: Visitor) -> None:
        """Leave a visitor out."""
        self._wishes.pop(visitor, None)

    def take(self, count: int) -> list[tuple[Visitor, Wish]]:
        """The `count` most active visitors, who no longer wait; of equals, who waits longest."""
        first = nsmallest(count, self._wishes, key=self._rank)
        return [(visitor, self._wishes.pop(visitor)) for visitor in first]

    def _rank(self, visitor: Visitor) -> tuple[int, float]:
        wish = self._wishes[visitor]
        return (-wish.events, wish.since)


class Outcome(StrEnum):
    """What became of a wish."""

    MADE = "made"
    NEEDLESS = "needless"  # there is a fresh slate already, or nothing to make one of
    FAILED = "failed"


class NearlineSlates:
    """Makes slates with one engine; for one event loop. The attributes tell how it goes."""

    def __init__(
        self,
        engine: EngineHandle,
        visitors: Visitors,
        clock: Clock,
        *,
        slate_items: int = 30,
        at_once: int = 64,
        deadline_seconds: float = 1.0,
    ) -> None:
        self.stale = StaleSlates()
        self.outcomes = Counter[Outcome]()  # of wishes
        self._engine = engine
        self._visitors = visitors
        self._clock = clock
        self._slate_items = slate_items
        self._at_once = at_once
        self._deadline_seconds = deadline_seconds

    async def make_some(self) -> None:
        """Make the slates of those who are most active among those who wait.

        Who holds the states may hear of an event a moment after the bus: it is looked at again for those whom that
        concerns, while the slates of all others are made.
        """
        waiting = self.stale.take(self._at_once)
        making: list[asyncio.Task[None]] = []
        end = time.monotonic() + _LONGEST_LOOKS_SECONDS
        for look in range(_LOOKS):
            is_last = look == _LOOKS - 1 or time.monotonic() >= end
            found = await self._look(waiting, as_it_is=is_last)
            if found.ready:
                making.append(asyncio.create_task(self._make(found.ready)))
            waiting = found.late
            if not waiting:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        for one in making:
            await one

    async def ask(self, wish: Wish, visitor: Visitor, state: UserState, last: LastSlate | None) -> Slate:
        """A slate as the visitor's last one was asked for, or, where there is none, in the event's scene."""
        at_seconds = self._clock.now()
        asked = engine_request(
            state,
            user_id=visitor.user_id,
            count=max(self._slate_items, last.asked if last is not None else 0),
            timestamp=int(at_seconds),
            scene=last.scene if last is not None else wish.arrival.event.scene,
            device=last.device if last is not None else None,
            deadline=time.monotonic() + self._deadline_seconds,
            background=True,
        )
        answer = await self._engine.recommend(asked)
        return Slate(
            items=answer.items,
            revision=state.revision,
            bundle_version=answer.bundle_version or self._engine.status.bundle_version,
            at_seconds=at_seconds,
            scene=asked.scene,
            device=asked.device,
            asked=asked.count,
            degraded=answer.degraded,
        )

    def settle(self, wish: Wish, outcome: Outcome, error: BaseException | None = None) -> None:
        """Note what became of a wish, and why it failed."""
        self.outcomes[outcome] += 1
        if error is not None:
            level = logging.DEBUG if isinstance(error, OverloadedError) else logging.INFO
            logger.log(level if isinstance(error, AsterismError) else logging.ERROR, "no slate was made: %s", error)

    async def _look(self, waiting: list[tuple[Visitor, Wish]], *, as_it_is: bool) -> _Look:
        """Read what the slates are made of; who needs none, or cannot have one, is settled."""
        asked = [Waiting(visitor, None if as_it_is else wish.arrival) for visitor, wish in waiting]
        inputs: Sequence[SlateInput | Exception]
        try:
            inputs = await self._visitors.inputs(asked)
        except Exception as error:  # of all of them alike
            inputs = [error] * len(waiting)
        found = _Look([], [])
        for (visitor, wish), one in zip(waiting, inputs, strict=True):
            if isinstance(one, Exception):
                self.settle(wish, Outcome.FAILED, one)
            elif one.is_late:
                found.late.append((visitor, wish))
            elif one.state is None:
                self.settle(wish, Outcome.NEEDLESS)
            else:
                found.ready.append((visitor, wish, one.state, one.last))
        return found

    async def _make(self, ready: list[tuple[Visitor, Wish, UserState, LastSlate | None]]) -> None:
        """Ask for all slates at once, and keep together what comes together."""
        asking = {
            asyncio.create_task(self.ask(wish, visitor, state, last)): (visitor, wish)
            for visitor, wish, state, last in ready
        }
        while asking:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            made = []
            for task in done:
                visitor, wish = asking.pop(task)
                if (error := task.exception()) is not None:
                    self.settle(wish, Outcome.FAILED, error)
                else:
                    made.append((visitor, wish, task.result()))
            await self._keep(made)

    async def _keep(self, made: list[tuple[Visitor, Wish, Slate]]) -> None:
        if not made:
            return
        refusals: Sequence[Exception | None]
        try:
            refusals = await self._visitors.keep([(visitor, slate) for visitor, _, slate in made])
        except Exception as error:  # of all of them alike
            refusals = [error] * len(made)
        for (_, wish, _), refusal in zip(made, refusals, strict=True):
            self.settle(wish, Outcome.MADE if refusal is None else Outcome.FAILED, refusal)


class _Look(NamedTuple):
    ready: list[tuple[Visitor, Wish, UserState, LastSlate | None]]
    late: list[tuple[Visitor, Wish]]
