"""The read path: a visitor's state, then the best slate that can be had in time, down a ladder.

`model` (the engine answered within the deadline) → `stale` (the visitor's last slate) →
`popular_segment` (popular in the category that tells most about them) → `popular`. A rung that holds
too few items is filled up from the ones below. Knows no HTTP, no SQL and no tensors.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from asterism.core.clock import Clock
from asterism.core.errors import AsterismError
from asterism.core.semantic_id import SemanticId
from asterism.serving.hot_state import HotState
from asterism.serving.ports import EngineAnswer, EngineClient, EngineRequest, HistoryEvent, ScoredItem
from asterism.stores.catalogue import Catalogue
from asterism.stores.exposure_log import Exposure, ExposureLog
from asterism.stores.slates import LocalSlates
from asterism.stores.user_state import RecentEvent, UserState, Visitor
from asterism.stores.vectors import VectorIndex

logger = logging.getLogger(__name__)

_COMPARED_EVENTS = 20  # how far back an explanation looks, and what outweighs a dislike
_REMEMBERED_DISLIKES = 20  # how many unwanted items colour their surroundings


class Source(StrEnum):
    """The rung of the ladder that an item came from."""

    MODEL = "model"
    STALE = "stale"
    POPULAR_SEGMENT = "popular_segment"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """Who asks, for how many items, and which must not be among them."""

    visitor: Visitor
    count: int = 10
    scene: str | None = None
    exclude: frozenset[str] = frozenset()
    explain: bool = False


class Because(NamedTuple):
    """The item of the visitor's history that lies nearest."""

    item_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Recommended:
    """One recommended item; `score` is the model's, where it came from the model."""

    item_id: str
    source: Source
    score: float | None = None
    semantic_id: SemanticId | None = None
    because: Because | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An answer; `source` is the best rung that gave anything."""

    attribution_id: str
    source: Source
    items: tuple[Recommended, ...]
    bundle_version: str
    latency_ms: float


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """How long the engine may take, and how many items it is asked for at least."""

    deadline_seconds: float = 0.2
    slate_items: int = 30


class Recommender:
    """Answers requests; for one event loop."""

    def __init__(
        self,
        *,
        engine: EngineClient,
        hot: HotState,
        catalogue: Catalogue,
        vectors: VectorIndex,
        exposures: ExposureLog,
        clock: Clock,
        bundle_version: str,
        settings: RecommenderSettings | None = None,
    ) -> None:
        self._engine = engine
        self._hot = hot
        self._catalogue = catalogue
        self._vectors = vectors
        self._exposures = exposures
        self._clock = clock
        self._bundle_version = bundle_version
        self._settings = settings or RecommenderSettings()
        self._slates = LocalSlates(clock)

    async def recommend(self, request: RecommendRequest) -> Recommendation:
        """The best slate that can be had within the deadline."""
        started = time.perf_counter()
        state = self._hot.states.get(request.visitor)
        excluded = state.seen.union(state.negative, request.exclude)
        fresh = await self._ask_engine(request, state, excluded) if state.recent else None
        items = self._fill(self._rungs(request.visitor, state, fresh), request.count, excluded)
        if request.explain:
            items = await asyncio.to_thread(self._explain, items, state)
        answer = Recommendation(
            attribution_id=uuid.uuid4().hex,
            source=items[0].source if items else Source.POPULAR,
            items=tuple(items),
            bundle_version=self._bundle_version,
            latency_ms=(time.perf_counter() - started) * 1000,
        )
        self._expose(request, answer)
        return answer

    async def _ask_engine(
        self, request: RecommendRequest, state: UserState, excluded: frozenset[str]
    ) -> tuple[ScoredItem, ...] | None:
        """The engine's items, or None when it failed or did not answer in time; a late answer is kept as a slate."""
        asked = EngineRequest(
            history=tuple(_history_event(one) for one in state.recent),
            count=max(request.count, self._settings.slate_items),
            excluded=excluded,
            user_id=request.visitor.user_id,
            timestamp=int(self._clock.now()),
            scene=request.scene,
        )
        task = asyncio.ensure_future(self._engine.recommend(asked))
        task.add_done_callback(partial(self._keep_slate, request))
        await asyncio.wait({task}, timeout=self._settings.deadline_seconds)
        if not task.done() or task.exception() is not None:
            return None
        return task.result().items

    def _keep_slate(self, request: RecommendRequest, task: asyncio.Task[EngineAnswer]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            level = logging.INFO if isinstance(error, AsterismError) else logging.ERROR
            logger.log(level, "no slate from the engine: %s", error)
        elif request.visitor.key is not None and not request.exclude:
            self._slates.keep(request.visitor.key, task.result().items)

    def _rungs(self, visitor: Visitor, state: UserState, fresh: tuple[ScoredItem, ...] | None) -> Iterator[Recommended]:
        """Candidates of every rung, best rung first; lower ones are computed only when they are reached."""
        if fresh is not None:
            yield from _scored(self._demoted(fresh, state), Source.MODEL)
        elif visitor.key is not None:
            yield from _scored(self._demoted(self._slates.get(visitor.key), state), Source.STALE)
        segment = self._hot.segment(state)
        if segment is not None:
            yield from self._popular(self._hot.popularity.ranked(segment), Source.POPULAR_SEGMENT)
        yield from self._popular(self._hot.popularity.ranked(), Source.POPULAR)

    def _demoted(self, items: tuple[ScoredItem, ...], state: UserState) -> tuple[ScoredItem, ...]:
        """The same items, but those that lie nearer to something unwanted than to anything wanted come last."""
        wanted = _newest_items(state)
        if not (items and wanted and state.negative):
            return items
        unwanted = state.negative[-_REMEMBERED_DISLIKES:]
        cosines = self._vectors.similarities([one.item_id for one in items], [*wanted, *unwanted])
        is_unwanted = cosines[:, len(wanted) :].max(axis=1) > cosines[:, : len(wanted)].max(axis=1)
        return tuple(
            one for last in (False, True) for one, flag in zip(items, is_unwanted, strict=True) if flag == last
        )

    def _popular(self, item_ids: Iterable[str], source: Source) -> Iterator[Recommended]:
        for item_id in item_ids:
            yield Recommended(item_id, source, semantic_id=self._engine.semantic_id(item_id))

    def _fill(self, candidates: Iterator[Recommended], count: int, excluded: frozenset[str]) -> list[Recommended]:
        unavailable = self._catalogue.unavailable()
        chosen: dict[str, Recommended] = {}
        for one in candidates:
            if len(chosen) == count:
                break
            if one.item_id not in excluded and one.item_id not in unavailable:
                chosen.setdefault(one.item_id, one)
        return list(chosen.values())

    def _explain(self, items: list[Recommended], state: UserState) -> list[Recommended]:
        past = _newest_items(state)
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
        )
        try:
            self._exposures.record(exposure)
        except AsterismError as error:
            logger.warning("exposure %s was not recorded: %s", exposure.attribution_id, error)


def _history_event(event: RecentEvent) -> HistoryEvent:
    return HistoryEvent(event.item_id, event.timestamp, event.action.value, event.value, event.scene, event.device)


def _newest_items(state: UserState) -> list[str]:
    return list(dict.fromkeys(event.item_id for event in reversed(state.recent)))[:_COMPARED_EVENTS]


def _scored(items: Sequence[ScoredItem], source: Source) -> Iterator[Recommended]:
    for one in items:
        yield Recommended(one.item_id, source, one.score, one.semantic_id)
