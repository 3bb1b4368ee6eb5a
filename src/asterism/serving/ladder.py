"""Candidates of every rung, best rung first.

`model` (the engine answered within the deadline) → `stale` (the visitor's last slate) →
`popular_segment` (popular in the category that tells most about them) → `popular`. A rung that holds
too few items is filled up from the ones below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from asterism.serving.hot_state import HotState
from asterism.serving.item_facts import Eligible
from asterism.serving.ports import EngineClient, ScoredItem
from asterism.serving.recommendation import Recommended, Source
from asterism.serving.reranker import Ranked
from asterism.stores.slates import Slates
from asterism.stores.user_state import UserState, Visitor
from asterism.stores.vectors import VectorIndex

_COMPARED_EVENTS: Final = 20  # how far back an explanation looks, and what outweighs a dislike
_REMEMBERED_DISLIKES: Final = 20  # how many unwanted items colour their surroundings
_WANTED, _DEMOTED, _SEGMENT, _POPULAR = range(4)  # tiers


class Ladder:
    """The rungs below a model; for one event loop."""

    def __init__(self, engine: EngineClient, hot: HotState, slates: Slates, vectors: VectorIndex) -> None:
        self._engine = engine
        self._hot = hot
        self._slates = slates
        self._vectors = vectors

    def rungs(
        self, visitor: Visitor, state: UserState, fresh: tuple[ScoredItem, ...] | None, eligible: Eligible
    ) -> Iterator[Ranked]:
        """All candidates after what the engine answered, if it did; a rung is computed when it is reached."""
        if fresh is not None:
            yield from self._scored(fresh, state, Source.MODEL)
        elif visitor.key is not None:
            yield from self._scored(self._slates.get(visitor.key), state, Source.STALE)
        few = eligible.few()
        segment = self._hot.segment(state)
        if segment is not None:
            yield from self._popular(few, segment, Source.POPULAR_SEGMENT, _SEGMENT)
        yield from self._popular(few, None, Source.POPULAR, _POPULAR)

    def _scored(self, items: tuple[ScoredItem, ...], state: UserState, source: Source) -> Iterator[Ranked]:
        """The same items, but those that lie nearer to something unwanted than to anything wanted come last."""
        unwanted = self._nearer_to_unwanted(items, state)
        for tier in (_WANTED, _DEMOTED):
            for one, is_demoted in zip(items, unwanted, strict=True):
                if is_demoted == (tier == _DEMOTED):
                    found = Recommended(one.item_id, source, one.score, one.semantic_id)
                    yield Ranked(found, tier, explorable=not is_demoted)

    def _nearer_to_unwanted(self, items: tuple[ScoredItem, ...], state: UserState) -> Sequence[bool]:
        wanted = newest_items(state)
        if not (items and wanted and state.negative):
            return [False] * len(items)
        unwanted = state.negative[-_REMEMBERED_DISLIKES:]
        cosines = self._vectors.similarities([one.item_id for one in items], [*wanted, *unwanted])
        nearer: list[bool] = (cosines[:, len(wanted) :].max(axis=1) > cosines[:, : len(wanted)].max(axis=1)).tolist()
        return nearer

    def _popular(self, few: list[str] | None, category: str | None, source: Source, tier: int) -> Iterator[Ranked]:
        popularity = self._hot.popularity
        ordered = popularity.ranked(category) if few is None else popularity.ranked_among(few, category)
        for item_id in ordered:
            yield Ranked(Recommended(item_id, source, semantic_id=self._engine.semantic_id(item_id)), tier)


def gathered(candidates: Iterable[Ranked], count: int, eligible: Eligible) -> list[Ranked]:
    """The first `count` eligible candidates, each once."""
    chosen: dict[str, Ranked] = {}
    for one in candidates:
        if len(chosen) == count:
            break
        if one.item.item_id in eligible:
            chosen.setdefault(one.item.item_id, one)
    return list(chosen.values())


def newest_items(state: UserState) -> list[str]:
    """What the visitor wanted last, newest first, each once."""
    return list(dict.fromkeys(event.item_id for event in reversed(state.recent)))[:_COMPARED_EVENTS]
