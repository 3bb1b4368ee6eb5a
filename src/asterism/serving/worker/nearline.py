"""The nearline loop: feedback makes a visitor's slate stale, and this makes the next one before it is asked for.

What cannot be made in time is left out: the visitor's next request then asks the engine itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Final

from asterism.core.clock import Clock
from asterism.core.errors import AsterismError, OverloadedError
from asterism.core.records import POSITIVE_ACTIONS
from asterism.serving.features.asking import engine_request
from asterism.serving.ports import EngineHandle
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.visitors import Visitors
from asterism.stores.slates import Slate
from asterism.stores.user_state import NEGATIVE_ACTIONS, UserState, Visitor

logger = logging.getLogger(__name__)

_HEARD: Final = POSITIVE_ACTIONS | NEGATIVE_ACTIONS  # an impression changes no state


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
        self.made = 0
        self.needless = 0  # visitors who had a fresh slate already
        self.failed = 0
        self.seconds: deque[float] = deque(maxlen=1_000)  # from an event's arrival here to its slate
        self._engine = engine
        self._visitors = visitors
        self._clock = clock
        self._slate_items = slate_items
        self._at_once = at_once
        self._deadline_seconds = deadline_seconds

    async def make_some(self) -> None:
        """Make the slates of those who are most active among those who wait."""
        chosen = self.stale.take(self._at_once)
        found = await asyncio.gather(*(self.make(*one) for one in chosen), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                self.failed += 1
                level = logging.DEBUG if isinstance(error, OverloadedError) else logging.INFO
                logger.log(level if isinstance(error, AsterismError) else logging.ERROR, "no slate was made: %s", error)

    async def make(self, visitor: Visitor, wish: Wish) -> bool:
        """Make one visitor's slate; False where they have a fresh one, or nothing to make it of."""
        last, state = await asyncio.gather(
            self._visitors.last_slate(visitor), self._visitors.state_after(visitor, wish.arrival)
        )
        if not state.recent or (last is not None and last.revision == state.revision):
            self.needless += 1
            return False
        await self._visitors.keep(visitor, await self._slate(visitor, state, last, wish.arrival.event.scene))
        self.made += 1
        self.seconds.append(time.monotonic() - wish.since)
        return True

    async def _slate(self, visitor: Visitor, state: UserState, last: Slate | None, scene: str | None) -> Slate:
        """As the visitor's last one was asked for, or, where there is none, as they would in the event's scene."""
        at_seconds = self._clock.now()
        asked = engine_request(
            state,
            user_id=visitor.user_id,
            count=max(self._slate_items, last.asked if last is not None else 0),
            timestamp=int(at_seconds),
            scene=last.scene if last is not None else scene,
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
