"""From the rungs' candidates to the slate: what the settings, the rules and the request make of their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.config.reranking import EACH_CATEGORY, RerankingConfig
from asterism.serving.item_facts import Eligible, ItemFacts
from asterism.serving.recommendation import Boost, Recommended, Source, Weighed
from asterism.serving.reranking import (
    Candidates,
    Caps,
    Exploration,
    Slate,
    SlatePlan,
    arrange_slate,
    freshness_factors,
    relevance_of_places,
)
from asterism.serving.reranking.caps import UNCAPPED
from asterism.serving.rule_book import RuleBook, SceneRules
from asterism.stores.outages import Outage
from asterism.stores.vectors import VectorIndex

_BURIED: Final = 100  # tiers behind everything that is not buried
_LAST: Final = 50  # the tier of what is there to be pinned or drawn
_LOOKED_AT: Final = 10  # times as many of the newest items are looked at as may be drawn, where filters leave some out

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


class Ranked(NamedTuple):
    """A candidate and its tier: of a lower tier, all are shown before one of the next."""

    item: Recommended
    tier: int
    explorable: bool = True


@dataclass(frozen=True, slots=True)
class SlateRequest:
    """What re-ranking reads of a request."""

    count: int
    scene: str | None
    boosts: tuple[Boost, ...]
    categories: frozenset[str]  # that the filters ask for: no cap counts them
    shown: int  # items above, on earlier pages of the scroll
    now_seconds: float
    seed: int
    explain: bool = True


class Reranker:
    """Makes slates over one catalogue."""

    def __init__(self, config: RerankingConfig, facts: ItemFacts, vectors: VectorIndex) -> None:
        self._config = config
        self._vectors_down = Outage("item vectors", "slates are not made diverse")
        self.prepared(facts, vectors)()

    def prepared(self, facts: ItemFacts, vectors: VectorIndex) -> Callable[[], None]:
        """What makes it choose from another catalogue; for any thread, and what it gives for that of the requests."""
        rules = RuleBook(self._config.rules, facts)
        everywhere = frozenset(facts.category_names[code] for code in facts.everywhere().tolist())

        def choose() -> None:
            self._facts, self._vectors, self._rules, self._everywhere = facts, vectors, rules, everywhere

        return choose

    @property
    def explores(self) -> bool:
        """Whether items have propensities that are not all 1."""
        return self._config.exploration.share > 0

    def hidden(self, scene: str | None) -> frozenset[str]:
        """The items that no answer may hold in a scene."""
        return self._rules.of_scene(scene).hidden

    def changes(self, boosts: Sequence[Boost]) -> bool:
        """Whether the order may be another than that of the candidates."""
        return self._config.is_active or bool(boosts)

    def candidates_for(self, count: int, boosts: Sequence[Boost]) -> int:
        """How many candidates a slate of `count` is made of; `count` where their order stays."""
        return max(count, self._config.candidates) if self.changes(boosts) else count

    def slate(self, ranked: list[Ranked], eligible: Eligible, asked: SlateRequest) -> list[Recommended]:
        """The slate of eligible candidates, in the order they came where nothing else is asked."""
        rules = self._rules.of_scene(asked.scene)
        ranked, pins = self._with_pins(ranked, eligible, rules, asked)
        if self.explores:
            ranked = ranked + self._newest(ranked, eligible)
        rows = self._facts.ids.encode(one.item.item_id for one in ranked)
        weighed = self._weighed(rows, rules, asked)
        members, caps = self._caps(rows, asked)
        buried = rules.buried[rows]
        similarities = self._similarities(ranked)
        candidates = Candidates(
            relevance=weighed[0],
            tiers=np.array([one.tier for one in ranked], dtype=np.int64) + _BURIED * buried,
            members=members,
            explorable=np.array([one.explorable for one in ranked], dtype=np.bool_) & ~buried,
            similarities=similarities,
        )
        found = arrange_slate(candidates, self._plan(pins, caps, asked, similarities is not None), asked.seed)
        return _shown(found, ranked, frozenset(pins.values()), weighed if asked.explain else None)

    def _with_pins(
        self, ranked: list[Ranked], eligible: Eligible, rules: SceneRules, asked: SlateRequest
    ) -> tuple[list[Ranked], dict[int, int]]:
        """The candidates and those that are pinned to this page; slot, from 0 → place among them."""
        found = list(ranked)
        place_of = {one.item.item_id: place for place, one in enumerate(ranked)}
        pins: dict[int, int] = {}
        for slot, item_id in rules.pins.items():
            if 0 <= slot - asked.shown < asked.count and item_id in eligible and item_id in self._facts.ids:
                if item_id not in place_of:
                    place_of[item_id] = len(found)
                    found.append(Ranked(Recommended(item_id, Source.PINNED), _LAST, explorable=False))
                pins[slot - asked.shown] = place_of[item_id]
        return found, pins

    def _newest(self, ranked: list[Ranked], eligible: Eligible) -> list[Ranked]:
        """The newest items that are no candidates yet, to be drawn."""
        wanted = self._config.exploration.new_items
        there = {one.item.item_id for one in ranked}
        looked_at = self._facts.newest[: wanted * _LOOKED_AT].tolist()
        new = (one for one in map(self._facts.ids.id_of, looked_at) if one not in there and one in eligible)
        return [Ranked(Recommended(one, Source.NEW), _LAST) for one in islice(new, wanted)]

    def _weighed(self, rows: Rows, rules: SceneRules, asked: SlateRequest) -> tuple[Floats, Floats, Floats]:
        """(n,) each: relevance, and the boost and the freshness that are in it."""
        boosts = rules.factors[rows] * self._rules.factors_of(asked.boosts, rows)
        fresh = self._config.freshness
        freshness = freshness_factors(
            self._facts.created_at[rows], asked.now_seconds, fresh.weight, fresh.half_life_days
        )
        return relevance_of_places(len(rows)) * boosts * freshness, boosts, freshness

    def _caps(self, rows: Rows, asked: SlateRequest) -> tuple[NDArray[np.bool_], Caps | None]:
        """(n, C) who is in which of the candidates' categories, and how many of each there may be."""
        if not self._config.caps:
            return np.zeros((len(rows), 0), dtype=np.bool_), None
        positions, categories = self._facts.category_pairs(rows)
        codes, columns = np.unique(categories, return_inverse=True)
        members = np.zeros((len(rows), len(codes)), dtype=np.bool_)
        members[positions, columns] = True
        names = [self._facts.category_names[code] for code in codes.tolist()]
        windows = sorted({one.window or asked.count for one in self._config.caps})
        most = np.full((len(windows), len(names)), UNCAPPED, dtype=np.int64)
        for cap in self._config.caps:
            row = windows.index(cap.window or asked.count)
            about = [
                column
                for column, name in enumerate(names)
                if name not in asked.categories
                and (cap.category == name or (cap.category == EACH_CATEGORY and name not in self._everywhere))
            ]
            most[row, about] = np.minimum(most[row, about], cap.most)
        return members, Caps(tuple(windows), most)

    def _similarities(self, ranked: list[Ranked]) -> NDArray[np.float32] | None:
        if self._config.diversity.method == "none":
            return None
        ids = [one.item.item_id for one in ranked]
        cosines = self._vectors_down.spared(lambda: self._vectors.similarities(ids, ids))
        if cosines is None:
            return None
        np.fill_diagonal(cosines, 1.0)
        return cosines

    def _plan(self, pins: dict[int, int], caps: Caps | None, asked: SlateRequest, is_diverse: bool) -> SlatePlan:
        explore = self._config.exploration
        first_slot = max(0, explore.first_slot - 1 - asked.shown)
        return SlatePlan(
            asked.count,
            pins,
            caps,
            self._config.diversity.method if is_diverse else "none",
            self._config.diversity.strength,
            Exploration(explore.share, first_slot) if self.explores else None,
        )


def _shown(
    slate: Slate, ranked: list[Ranked], pinned: frozenset[int], weighed: tuple[Floats, Floats, Floats] | None
) -> list[Recommended]:
    hows = list(zip(*(one.tolist() for one in weighed), strict=True)) if weighed is not None else None
    chosen = zip(slate.rows.tolist(), slate.propensities.tolist(), slate.explored.tolist(), strict=True)
    shown = []
    for row, propensity, explored in chosen:
        one = ranked[row].item
        source = Source.PINNED if row in pinned else one.source
        how = Weighed(row + 1, *hows[row]) if hows is not None else None
        shown.append(
            Recommended(one.item_id, source, one.score, one.semantic_id, one.because, how, propensity, explored)
        )
    return shown
