"""The last slate of each visitor, kept for the moment when the engine does not answer in time.

A kept slate is never served as a fresh one: while the engine answers, every request is computed from
the state of that moment, so feedback needs no invalidation to be heard. When a slate is fallen back
on, what the visitor has meanwhile seen or declined is left out of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple, Protocol

from asterism.core.clock import Clock
from asterism.core.semantic_id import SemanticId
from asterism.stores.user_state import Visitor

#: After so long a slate tells more about its time than about its visitor.
MAX_AGE_SECONDS = 3600.0


class ScoredItem(NamedTuple):
    """An item as the model ranked it."""

    item_id: str
    score: float
    semantic_id: SemanticId


class Slates(Protocol):
    """Slates by visitor; every method may be called from any thread."""

    def keep(self, visitor: Visitor, items: tuple[ScoredItem, ...]) -> None:
        """Remember a slate in place of the visitor's older one."""
        ...

    def get(self, visitor: Visitor) -> tuple[ScoredItem, ...]:
        """The visitor's last slate, or nothing where there is none or it is too old."""
        ...


class _Kept(NamedTuple):
    items: tuple[ScoredItem, ...]
    at_seconds: float


class LocalSlates:
    """Implements `Slates` in memory; of too many, the visitor not heard of for longest leaves first."""

    def __init__(self, clock: Clock, max_visitors: int = 20_000, max_age_seconds: float = MAX_AGE_SECONDS) -> None:
        self._clock = clock
        self._max_visitors = max_visitors
        self._max_age_seconds = max_age_seconds
        self._kept: OrderedDict[Visitor, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, visitor: Visitor, items: tuple[ScoredItem, ...]) -> None:
        """See `Slates.keep`."""
        with self._lock:
            self._kept[visitor] = _Kept(items, self._clock.now())
            self._kept.move_to_end(visitor)
            while len(self._kept) > self._max_visitors:
                self._kept.popitem(last=False)

    def get(self, visitor: Visitor) -> tuple[ScoredItem, ...]:
        """See `Slates.get`."""
        kept = self._kept.get(visitor)
        if kept is None or self._clock.now() - kept.at_seconds > self._max_age_seconds:
            return ()
        return kept.items
