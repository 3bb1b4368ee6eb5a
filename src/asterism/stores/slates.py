"""The last slate of each visitor: what the model would say again, or the next best when it says nothing.

A slate tells of which state, in which scene and by which bundle it was made. While all of these are as they were, and
it is young, it is the model's answer; feedback makes another state, so nothing has to be invalidated to be heard. Else
it is what is fallen back on, without what the visitor has meanwhile seen or declined.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from asterism.core.clock import Clock
from asterism.core.errors import StorageError
from asterism.core.semantic_id import SemanticId
from asterism.stores.user_state import Visitor

#: After so long a slate tells more about its time than about its visitor.
MAX_AGE_SECONDS = 3600.0


class ScoredItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An item as the model ranked it.

    Hidden from the garbage collector, as slates keep hundreds of thousands, and none can be part of a cycle.
    """

    item_id: str
    score: float
    semantic_id: SemanticId


@dataclass(frozen=True, slots=True)
class Slate:
    """What the model answered to a visitor of whom nothing else was asked: no filter, page or exclusion."""

    items: tuple[ScoredItem, ...]  # best first
    revision: int  # of the state that the model read
    bundle_version: str
    at_seconds: float  # Unix, when the model was asked
    scene: str | None = None
    device: str | None = None
    asked: int = 0  # items; where there are fewer, the catalogue has no more
    degraded: bool = False  # the beam was narrower than configured

    def is_valid(self, revision: int, bundle_version: str, now_seconds: float, max_age_seconds: float) -> bool:
        """Whether the model, asked again in the same scene, would say the same; a clock may have jumped either way."""
        return (
            self.revision == revision != 0
            and self.bundle_version == bundle_version
            and abs(now_seconds - self.at_seconds) < max_age_seconds
        )


class Slates(Protocol):
    """Slates by visitor; every method may be called from any thread."""

    def keep(self, visitor: Visitor, slate: Slate) -> None:
        """Remember a slate in place of the visitor's older one; `visitor` is a key, not a user and a session."""
        ...

    def get(self, visitor: Visitor) -> Slate | None:
        """The visitor's last slate, or None where there is none or it is too old for anything."""
        ...

    def keep_many(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[StorageError | None]:
        """As `keep` of each, at once; of each, why it was refused, or None. Raises `StoreUnavailableError`."""
        ...

    def get_many(self, visitors: Sequence[Visitor]) -> list[Slate | StorageError | None]:
        """Each visitor's slate as `get` gives it, asked for at once, or why this one cannot be read.

        Raises `StoreUnavailableError`.
        """
        ...

    def forget(self, visitor: Visitor) -> None:
        """Delete the visitor's slate."""
        ...


class LocalSlates:
    """Implements `Slates` in memory; of too many, the visitor not heard of for longest leaves first."""

    def __init__(self, clock: Clock, max_visitors: int = 20_000, max_age_seconds: float = MAX_AGE_SECONDS) -> None:
        self._clock = clock
        self._max_visitors = max_visitors
        self._max_age_seconds = max_age_seconds
        self._kept: OrderedDict[Visitor, Slate] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, visitor: Visitor, slate: Slate) -> None:
        """See `Slates.keep`."""
        with self._lock:
            self._kept[visitor] = slate
            self._kept.move_to_end(visitor)
            while len(self._kept) > self._max_visitors:
                self._kept.popitem(last=False)

    def get(self, visitor: Visitor) -> Slate | None:
        """See `Slates.get`."""
        slate = self._kept.get(visitor)
        if slate is None or self._clock.now() - slate.at_seconds > self._max_age_seconds:
            return None
        return slate

    def keep_many(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[StorageError | None]:
        """See `Slates.keep_many`."""
        for visitor, slate in slates:
            self.keep(visitor, slate)
        return [None] * len(slates)

    def get_many(self, visitors: Sequence[Visitor]) -> list[Slate | StorageError | None]:
        """See `Slates.get_many`."""
        return [self.get(one) for one in visitors]

    def forget(self, visitor: Visitor) -> None:
        """See `Slates.forget`."""
        with self._lock:
            self._kept.pop(visitor, None)
