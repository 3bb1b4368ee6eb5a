"""The read path: a visitor's state, then the best slate that can be had in time.

Knows no HTTP, no SQL and no tensors.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field, replace
from functools import partial

from asterism.config.reranking import RerankingConfig
from asterism.core.clock import Clock
from asterism.core.errors import AsterismError
from asterism.serving.hot_state import HotState
from asterism.serving.item_facts import Eligible, ItemFacts
from asterism.serving.ladder import Ladder, gathered, newest_items
from asterism.serving.ports import EngineAnswer, EngineClient, EngineRequest, HistoryEvent
from asterism.serving.recommendation import Because, Recommendation, Recommended, RecommendRequest, Source
from asterism.serving.reranker import Ranked, Reranker, SlateRequest
from asterism.serving.scroll import Scroll, Scrolls
from asterism.stores.catalogue import Catalogue
from asterism.stores.exposure_log import Exposure, ExposureLog
from asterism.stores.slates import LocalSlates
from asterism.stores.user_state import RecentEvent, UserState
from asterism.stores.vectors import VectorIndex

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """How long the engine may take, how many items it is asked for at least, and what is made of them."""

    deadline_seconds: float = 0.2
    slate_items: int = 30
    reranking: RerankingConfig = field(default_factory=RerankingConfig)


class Recommender:
    """Answers requests; for one event loop."""

    def __init__(
        self,
        *,
        engine: EngineClient,
        hot: HotState,
        catalogue: Catalogue,
        facts: ItemFacts,
        vectors: VectorIndex,
        exposures: ExposureLog,
        clock: Clock,
        bundle_version: str,
        settings: RecommenderSettings | None = None,
    ) -> None:
        self._engine = engine
        self._hot = hot
        self._catalogue = catalogue
        self._facts = facts
        self._vectors = vectors
        self._exposures = exposures
        self._clock = clock
        self._bundle_version = bundle_version
        self._settings = settings or RecommenderSettings()
        self._slates = LocalSlates(clock)
        self._ladder = Ladder(engine, hot, self._slates, vectors)
        self._reranker = Reranker(self._settings.reranking, facts, vectors)
        self._scrolls = Scrolls(facts.ids)

    async def recommend(self, request: RecommendRequest) -> Recommendation:
        """The best slate that can be had within the deadline; raises `RequestError` on a category that no item has."""
        started = time.perf_counter()
        self._check(request)
        scroll = self._scrolls.read(request.cursor)
        state = await self._hot.state_of(request.visitor)
        excluded = state.seen.union(
            state.negative, request.exclude, scroll.item_ids, self._reranker.hidden(request.scene)
        )
        fresh = await self._ask_engine(request, state, excluded) if state.recent else None
        scored = fresh.items if fresh is not None else None
        eligible = Eligible(self._facts, request.wanted, request.allowed, excluded, self._catalogue.unavailable())
        rungs = self._ladder.rungs(request.visitor, state, scored, eligible)
        ranked = gathered(rungs, self._reranker.candidates_for(request.count, request.boosts), eligible)
        attribution_id = uuid.uuid4().hex
        items = self._slate(request, scroll, ranked, eligible, attribution_id)
        if request.explain:
            items = await asyncio.to_thread(self._explain, items, state)
        answer = Recommendation(
            attribution_id=attribution_id,
            source=ranked[0].item.source if ranked else Source.POPULAR,
            items=tuple(items),
            bundle_version=(fresh.bundle_version if fresh is not None else None) or self._bundle_version,
            degraded=fresh is not None and fresh.degraded,
            latency_ms=(time.perf_counter() - started) * 1000,
            cursor=self._cursor(request, scroll, len(ranked), items),
        )
        self._expose(request, answer)
        return answer

    def _check(self, request: RecommendRequest) -> None:
        asked = [request.wanted.categories] if request.wanted else []
        for categories in (*asked, *(one.categories for one in request.boosts)):
            self._facts.check_categories(categories)

    def _slate(
        self, request: RecommendRequest, scroll: Scroll, ranked: list[Ranked], eligible: Eligible, attribution_id: str
    ) -> list[Recommended]:
        if not (request.explain or self._reranker.changes(request.boosts)):
            return [one.item for one in ranked]
        asked = SlateRequest(
            count=request.count,
            scene=request.scene,
            boosts=request.boosts,
            categories=request.wanted.categories if request.wanted else frozenset(),
            shown=len(scroll.marks),
            now_seconds=self._clock.now(),
            seed=int(attribution_id, 16),
            explain=request.explain,
        )
        return self._reranker.slate(ranked, eligible, asked)

    def _cursor(
        self, request: RecommendRequest, scroll: Scroll, candidates: int, items: list[Recommended]
    ) -> str | None:
        """What leads on behind these items; None at the end of what there is. (Caps may leave a page short of that.)"""
        if not items or (len(items) < request.count and candidates <= len(items)):
            return None
        return self._scrolls.after(scroll, (one.item_id for one in items))

    async def _ask_engine(
        self, request: RecommendRequest, state: UserState, excluded: frozenset[str]
    ) -> EngineAnswer | None:
        """The engine's answer, or None when it failed or did not answer in time; a late answer is kept as a slate."""
        asked = EngineRequest(
            history=tuple(_history_event(one) for one in state.recent),
            count=max(self._reranker.candidates_for(request.count, request.boosts), self._settings.slate_items),
            excluded=excluded,
            user_id=request.visitor.user_id,
            timestamp=int(self._clock.now()),
            scene=request.scene,
            deadline=time.monotonic() + self._settings.deadline_seconds,
            device=request.device,
            wanted=request.wanted,
            allowed=request.allowed,
        )
        task = asyncio.ensure_future(self._engine.recommend(asked))
        task.add_done_callback(partial(self._keep_slate, request))
        await asyncio.wait({task}, timeout=self._settings.deadline_seconds)
        if not task.done() or task.exception() is not None:
            return None
        return task.result()

    def _keep_slate(self, request: RecommendRequest, task: asyncio.Task[EngineAnswer]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            level = logging.INFO if isinstance(error, AsterismError) else logging.ERROR
            logger.log(level, "no slate from the engine: %s", error)
        elif request.visitor.key is not None and request.is_open:
            self._slates.keep(request.visitor.key, task.result().items)

    def _explain(self, items: list[Recommended], state: UserState) -> list[Recommended]:
        past = newest_items(state)
        if not past or not items:
            return items
        cosines = self._vectors.similarities([one.item_id for one in items], past)
        nearest = cosines.argmax(axis=1)
        return [
            replace(one, because=Because(past[column], float(cosines[row, column])))
            if cosines[row, column] > 0
            else one
            for row, (one, column) in enumerate(zip(items, nearest.tolist(), strict=True))
        ]

    def _expose(self, request: RecommendRequest, answer: Recommendation) -> None:
        exposure = Exposure(
            attribution_id=answer.attribution_id,
            timestamp=int(self._clock.now()),
            item_ids=tuple(one.item_id for one in answer.items),
            source=answer.source.value,
            user_id=request.visitor.user_id,
            session_id=request.visitor.session_id,
            scene=request.scene,
            bundle_version=answer.bundle_version,
            propensities=tuple(one.propensity for one in answer.items) if self._reranker.explores else None,
        )
        try:
            self._exposures.record(exposure)
        except AsterismError as error:
            logger.warning("exposure %s was not recorded: %s", exposure.attribution_id, error)


def _history_event(event: RecentEvent) -> HistoryEvent:
    return HistoryEvent(event.item_id, event.timestamp, event.action.value, event.value, event.scene, event.device)
