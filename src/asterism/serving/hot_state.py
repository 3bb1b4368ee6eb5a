"""What feedback changes at once: users' states, slates and popularity, in this process or in Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from asterism.core.errors import AsterismError
from asterism.core.records import POSITIVE_ACTIONS
from asterism.serving.interests import Categories
from asterism.serving.popularity import Popularity
from asterism.stores.event_bus import Receipt
from asterism.stores.event_log import Event
from asterism.stores.opening import Hot, open_hot
from asterism.stores.user_state import NO_STATE, Offset, RecentEvent, UserState, Visitor, warm

logger = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS: Final = 16
_REST_SECONDS: Final = 1.0  # a store that failed is not asked again before


class PastEvent(NamedTuple):
    """A user's event from before this service ran."""

    user_id: str
    event: RecentEvent


class HotState:
    """States, slates, limits, popularity and categories; its own methods are for one event loop.

    Where `is_local`, the stores are in this process and may be asked on the loop. Elsewhere they are asked on
    threads: `state_of` gives the empty state where the store does not answer within `patience_seconds`.
    """

    def __init__(
        self,
        categories_of: Mapping[str, tuple[str, ...]],
        past: Iterable[PastEvent] = (),
        stores: Hot | None = None,
        patience_seconds: float = 0.1,
    ) -> None:
        past = list(past)
        self._stores = stores or open_hot("memory")
        self.states, self.slates, self.limits = self._stores.states, self._stores.slates, self._stores.limits
        self.is_local = self._stores.client is None
        self.categories = Categories(categories_of)
        self.popularity = Popularity(
            categories_of, (one.event.item_id for one in past if one.event.action in POSITIVE_ACTIONS)
        )
        self._patience_seconds = patience_seconds
        self._asked_again_at = 0.0
        self._threads = None if self.is_local else ThreadPoolExecutor(_THREADS, "hot-state")
        if self.is_local:
            warm(self.states, past)

    async def state_of(self, visitor: Visitor) -> UserState:
        """The visitor's state; the empty one where the store is down, so that the answer comes from a lower rung."""
        if self.is_local:
            return self.states.get(visitor)
        found = await self.asked(lambda: self.states.get(visitor))
        return NO_STATE if found is None else found

    async def take_in(self, events: Sequence[Event], receipts: Sequence[Receipt]) -> None:
        """Take in what was published just now; where the store is down, the worker's consumer brings it later."""
        fresh = [(event, one.offset) for event, one in zip(events, receipts, strict=True) if one.is_new]
        if self.is_local:
            for event, _ in fresh:
                self.apply(event)
        elif fresh:
            await self.asked(lambda: [_apply(self._stores, event, offset) for event, offset in fresh])

    async def asked(self, action: Callable[[], T]) -> T | None:
        """What the store says, or None where it does not within our patience."""
        if time.monotonic() < self._asked_again_at:
            return None
        asked = asyncio.get_running_loop().run_in_executor(self._threads, action)
        try:
            return await asyncio.wait_for(asyncio.shield(asked), self._patience_seconds)
        except (AsterismError, TimeoutError) as error:
            asked.add_done_callback(lambda one: one.cancelled() or one.exception())  # it may still fail, unheard
            if time.monotonic() >= self._asked_again_at:
                reason = str(error) or f"no answer within {self._patience_seconds:g} s"
                logger.warning("users' states are not known just now: %s", reason)
            self._asked_again_at = time.monotonic() + _REST_SECONDS
            return None

    def apply(self, event: Event) -> None:
        """Take in one accepted event, where the stores are local."""
        if _apply(self._stores, event, None) and event.action in POSITIVE_ACTIONS:
            self.popularity.add(event.item_id)

    def segment(self, state: UserState) -> str | None:
        """The category whose popular items suit a state best."""
        return self.categories.segment(state.recent)

    def interests(self, state: UserState) -> dict[str, float]:
        """Interest shares by category, largest first."""
        return self.categories.interests(state.recent)

    def close(self) -> None:
        """Let go of threads and connections."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._stores.close()


def _apply(stores: Hot, event: Event, offset: Offset | None) -> bool:
    visitor = Visitor(event.user_id, event.session_id)
    return stores.states.apply(visitor, recent_event(event), offset, ahead=offset is not None)


def recent_event(event: Event) -> RecentEvent:
    """An event as states keep it."""
    return RecentEvent(event.timestamp, event.item_id, event.action, event.value, event.scene)
