"""Candidates of every rung, best rung first.

`model` (the engine answered within the deadline, or the visitor's slate is valid) → `stale` (their last slate, valid no
longer) → `popular_segment` (popular in the category that tells most about them) → `popular`. A rung that holds too few
items is filled up from the ones below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from asterism.serving.hot_state import HotState
from asterism.serving.item_facts import Eligible
from asterism.serving.ports import EngineClient, ScoredItem
from asterism.serving.recommendation import Recommended, Source
from asterism.serving.reranker import Ranked
from asterism.stores.outages import Outage
from asterism.stores.user_state import UserState
from asterism.stores.vectors import VectorIndex

_COMPARED_EVENTS: Final = 20  # how far back an explanation looks, and what outweighs a dislike
_REMEMBERED_DISLIKES: Final = 20  # how many unwanted items colour their surroundings
_WANTED, _DEMOTED, _SEGMENT, _POPULAR = range(4)  # tiers


class Scored(NamedTuple):
    """What a model said of a visitor, now or earlier; `unwanted` is as long as `items`, or empty where none is."""

    items: tuple[ScoredItem, ...] = ()
    source: Source = Source.MODEL
    unwanted: tuple[bool, ...] = ()


class Ladder:
    """The rungs below a model; for one event loop."""

    def __init__(self, engine: EngineClient, hot: HotState, vectors: VectorIndex) -> None:
        self._engine = engine
        self._hot = hot
        self.vectors = vectors  # of the items that the model knows
        self._vectors_down = Outage("item vectors", "what is near unwanted items keeps its place")

    def candidates(self, scored: Scored, state: UserState, eligible: Eligible, count: int) -> list[Ranked]:
        """The first `count` eligible ones, each once: the model's, then those of the rungs below."""
        if any(scored.unwanted):
            return gathered(chain(_by_wish(scored), self._below(state, eligible)), count, eligible)
        source, found = scored.source, []
        for one in scored.items:
            if one.item_id in eligible:
                found.append(Ranked(Recommended(one.item_id, source, one.score, one.semantic_id), _WANTED))
                if len(found) == count and len({each.item.item_id for each in found}) == count:
                    return found
        return gathered(chain(found, self._below(state, eligible)), count, eligible)

    def _below(self, state: UserState, eligible: Eligible) -> Iterator[Ranked]:
        """The rungs below the model, each computed when it is reached."""
        few = eligible.few()
        segment = self._hot.segment(state)
        if segment is not None:
            yield from self._popular(few, segment, Source.POPULAR_SEGMENT, _SEGMENT)
        yield from self._popular(few, None, Source.POPULAR, _POPULAR)

    def scored(self, items: tuple[ScoredItem, ...], source: Source, state: UserState) -> Scored:
        """What a model said, and which of it lies nearer to something unwanted than to anything wanted."""
        if not (items and state.recent and state.negative):
            return Scored(items, source)
        wanted = newest_items(state)
        ids = [one.item_id for one in items]
        others = [*wanted, *state.negative[-_REMEMBERED_DISLIKES:]]
        cosines = self._vectors_down.spared(lambda: self.vectors.similarities(ids, others))
        if cosines is None:
            return Scored(items, source)
        nearer = cosines[:, len(wanted) :].max(axis=1) > cosines[:, : len(wanted)].max(axis=1)
        return Scored(items, source, tuple(nearer.tolist()))

    def _popular(self, few: list[str] | None, category: str | None, source: Source, tier: int) -> Iterator[Ranked]:
        popularity = self._hot.popularity
        ordered = popularity.ranked(category) if few is None else popularity.ranked_among(few, category)
        for item_id in ordered:
            yield Ranked(Recommended(item_id, source, semantic_id=self._engine.semantic_id(item_id)), tier)


def _by_wish(scored: Scored) -> Iterator[Ranked]:
    """The same items, but the unwanted ones come last."""
    for tier in (_WANTED, _DEMOTED):
        for one, is_demoted in zip(scored.items, scored.unwanted, strict=True):
            if is_demoted == (tier == _DEMOTED):
                found = Recommended(one.item_id, scored.source, one.score, one.semantic_id)
                yield Ranked(found, tier, explorable=not is_demoted)


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
