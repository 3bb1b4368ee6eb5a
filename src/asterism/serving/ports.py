"""What the recommender needs from a model, in items and ids alone: no tensors, no processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from asterism.core.semantic_id import SemanticId
from asterism.stores.slates import ScoredItem as ScoredItem


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """A positive event of the asking user; `action` is a value of `core.records.Action`."""

    item_id: str
    timestamp: int  # Unix seconds
    action: str
    value: float | None = None
    scene: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """After this history (time-ordered, oldest first), which `count` items, none of them excluded?"""

    history: tuple[HistoryEvent, ...]
    count: int
    excluded: frozenset[str] = frozenset()
    user_id: str | None = None  # for a model that reads users' attributes
    timestamp: int | None = None  # of the request, Unix seconds
    scene: str | None = None  # of the request


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """Items, best first; fewer than asked for where the catalogue has no more."""

    items: tuple[ScoredItem, ...]


class Engine(Protocol):
    """A model that answers many requests at once, in the process where it was loaded."""

    def recommend(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """One answer for each request, in their order; a history may hold items the model does not know."""
        ...

    def semantic_ids(self) -> dict[str, SemanticId]:
        """The semantic id of every item the model knows."""
        ...


#: Loads an engine from a bundle's folder; named as `module:function` on the command line.
EngineFactory = Callable[[Path], Engine]


class EngineClient(Protocol):
    """An engine somewhere else, which may be slow, busy, or dead just now."""

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """One answer; raises `ModelError` when the engine fails or died, `OverloadedError` when too many wait."""
        ...

    def semantic_id(self, item_id: str) -> SemanticId | None:
        """The semantic id of an item, or None while the engine has not told it."""
        ...
