"""What the model says of a visitor: again what it said, something new, or the last thing it said."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from asterism.core.clock import Clock
from asterism.core.errors import AsterismError
from asterism.serving.features.asking import engine_request
from asterism.serving.flights import Flight, Flights, landed
from asterism.serving.item_facts import Eligible
from asterism.serving.ports import EngineClient, EngineRequest
from asterism.serving.recommendation import RecommendRequest, Source
from asterism.serving.visits import Visit, Visits
from asterism.stores.slates import Slate
from asterism.stores.user_state import Visitor

logger = logging.getLogger(__name__)

#: Of the time for which a slate answers: so much of it depends on the visitor, or whoever came in one moment, as after
#: a start or a deploy, would have theirs end in one moment too, and the next, all at the model at once.
_SPREAD: Final = 0.25


class Said(NamedTuple):
    """A slate, and whether it is the model's answer or one to fall back on."""

    slate: Slate | None
    source: Source
    cached: bool  # kept from an earlier request


class ModelAnswers:
    """Asks the engine where no valid slate spares that; for one event loop."""

    def __init__(
        self,
        engine: EngineClient,
        visits: Visits,
        clock: Clock,
        version: Callable[[], str],
        deadline_seconds: float,
        slate_seconds: float,
        least_items: int,
    ) -> None:
        """`version` tells which bundle answers now; the engine is asked for `least_items` at least."""
        self._engine = engine
        self._visits = visits
        self._clock = clock
        self._version = version
        self._deadline_seconds = deadline_seconds
        self._slate_seconds = slate_seconds
        self._least_items = least_items
        self._flights = Flights()

    def is_valid(self, slate: Slate, visit: Visit) -> bool:
        """Whether the model would say the same again."""
        revision, now = visit.state.revision, self._clock.now()
        seconds = self._slate_seconds * (1.0 - _SPREAD * _share_of(visit.key))
        return visit.is_current and slate.is_valid(revision, self._version(), now, seconds)

    async def about(self, request: RecommendRequest, visit: Visit, eligible: Eligible, count: int) -> Said:
        """The best of what the model says or said, `count` eligible items where it has as many."""
        kept: Slate | None = None
        if visit.key is not None and request.takes_slate:
            kept = await self._visits.slate(visit.key)
            if kept is not None and self._answers(kept, request, visit, eligible, count):
                return Said(kept, Source.MODEL, True)
        fresh = await self._fresh(request, visit, eligible, count) if visit.state.recent else None
        if fresh is not None:
            return Said(fresh, Source.MODEL, False)
        if kept is None and visit.key is not None:
            kept = await self._visits.slate(visit.key)
        return Said(kept, Source.STALE, kept is not None)

    def _answers(self, kept: Slate, request: RecommendRequest, visit: Visit, eligible: Eligible, count: int) -> bool:
        if (kept.scene, kept.device) != (request.scene, request.device) or not self.is_valid(kept, visit):
            return False
        return len(kept.items) < kept.asked or sum(one.item_id in eligible for one in kept.items) >= count

    async def _fresh(self, request: RecommendRequest, visit: Visit, eligible: Eligible, count: int) -> Slate | None:
        """The engine's answer, or None when it failed or did not answer in time; a late answer is still kept."""
        count = max(count, self._least_items)
        question = (visit.key, visit.state.revision, request.scene, request.device) if request.takes_slate else None
        flight = self._flights.joinable(question, count) if question is not None else None
        if flight is None:
            at_seconds = self._clock.now()
            asked = self._question(request, visit, frozenset(eligible.excluded), count, at_seconds)
            flight = asyncio.ensure_future(self._ask(asked, visit, at_seconds, is_open=request.is_open))
            flight.add_done_callback(_tell_failure)
            if question is not None:
                self._flights.add(question, flight, count, self._deadline_seconds / 2)
        await landed(flight, request.patience_seconds(self._deadline_seconds))
        if not flight.done() or flight.cancelled() or flight.exception() is not None:
            return None
        return flight.result()

    async def _ask(self, asked: EngineRequest, visit: Visit, at_seconds: float, *, is_open: bool) -> Slate:
        answer = await self._engine.recommend(asked)
        slate = Slate(
            items=tuple([one for one in answer.items if one.item_id not in asked.excluded]),
            revision=visit.state.revision if visit.is_current else 0,
            bundle_version=answer.bundle_version or self._version(),
            at_seconds=at_seconds,
            scene=asked.scene,
            device=asked.device,
            asked=asked.count,
            degraded=answer.degraded,
        )
        if is_open and visit.key is not None:
            self._visits.keep(visit.key, slate)
        return slate

    def _question(
        self, request: RecommendRequest, visit: Visit, excluded: frozenset[str], count: int, at_seconds: float
    ) -> EngineRequest:
        most = self._deadline_seconds  # that of a slate, which is kept for others
        patience = most if request.takes_slate else request.patience_seconds(most)
        return engine_request(
            visit.state,
            user_id=request.visitor.user_id,
            count=count,
            timestamp=int(at_seconds),
            excluded=excluded,
            scene=request.scene,
            device=request.device,
            wanted=request.wanted,
            allowed=request.allowed,
            deadline=time.monotonic() + patience,
        )


def _share_of(visitor: Visitor | None) -> float:
    """A number from 0 to 1 that is the visitor's own."""
    name = "" if visitor is None else visitor.user_id or visitor.session_id or ""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) / 0xFFFFFFFF


def _tell_failure(flight: Flight) -> None:
    error = None if flight.cancelled() else flight.exception()
    if error is not None:
        level = logging.INFO if isinstance(error, AsterismError) else logging.ERROR
        logger.log(level, "no slate from the engine: %s", error)
