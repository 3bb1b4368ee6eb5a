"""What the read path is asked, and what it answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from asterism.core.semantic_id import SemanticId
from asterism.data.item_attributes import Predicate
from asterism.stores.user_state import Visitor


class Source(StrEnum):
    """Where an item came from: a rung of the ladder, a rule, or the newest of the catalogue."""

    MODEL = "model"
    STALE = "stale"
    POPULAR_SEGMENT = "popular_segment"
    POPULAR = "popular"
    PINNED = "pinned"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Boost:
    """The relevance of the named items, and of those with a named category or brand, is multiplied by `factor`."""

    factor: float
    items: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    brands: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """Who asks, for how many items, which ones may be among them, and where the scroll stands."""

    visitor: Visitor
    count: int = 10
    scene: str | None = None
    exclude: frozenset[str] = frozenset()
    explain: bool = False
    device: str | None = None
    wanted: Predicate | None = None
    allowed: frozenset[str] | None = None  # only these
    boosts: tuple[Boost, ...] = ()
    cursor: str | None = None
    deadline: float | None = None  # of the caller, on the clock of time.monotonic

    def patience_seconds(self, most: float) -> float:
        """How long the model may take: four fifths of what the caller leaves, and `most` at the most."""
        return most if self.deadline is None else max(0.0, min(most, 0.8 * (self.deadline - time.monotonic())))

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked of the items, so that the model's answer may stand for the visitor's slate."""
        return not self.exclude and self.wanted is None and self.allowed is None and self.cursor is None

    @property
    def takes_slate(self) -> bool:
        """Whether the visitor's slate, while it is valid, is what the model would answer."""
        return self.is_open and not self.boosts


class Because(NamedTuple):
    """The item of the visitor's history that lies nearest."""

    item_id: str
    similarity: float


class Weighed(NamedTuple):
    """How an item was weighed: relevance = boost · freshness / log2(1 + place)."""

    place: int  # from 1, before re-ranking
    relevance: float
    boost: float
    freshness: float


class Recommended(msgspec.Struct, frozen=True, gc=False):
    """One recommended item; `score` is the model's, where it came from the model.

    A struct, as each answer makes many: a frozen dataclass of as many fields takes six times as long to make. Hidden
    from the garbage collector, as pages keep hundreds of thousands, and none can be part of a cycle.
    """

    item_id: str
    source: Source
    score: float | None = None
    semantic_id: SemanticId | None = None
    because: Because | None = None
    weighed: Weighed | None = None
    propensity: float = 1.0  # of this item at this place, given those above it
    explored: bool = False


@dataclass(slots=True)
class Encoded:
    """A place for what an encoder made of an answer's items, which are often given again."""

    parts: Any = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An answer; `source` is the best rung that gave anything, `cursor` leads on where there may be more."""

    attribution_id: str
    source: Source
    items: tuple[Recommended, ...]
    bundle_version: str  # that the model's items came from
    latency_ms: float
    cursor: str | None = None
    degraded: bool = False  # whether the model's beam was narrower than configured, for want of time
    cached: bool = False  # whether the model had said it before, of the same state and scene
    encoded: Encoded = field(default_factory=Encoded, compare=False)  # shared by answers of the same items
