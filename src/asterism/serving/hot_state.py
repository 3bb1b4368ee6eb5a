"""What feedback changes at once: users' states, slates and popularity, in this process or in Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from asterism.core.errors import AsterismError, StorageError, StoreUnavailableError
from asterism.core.records import POSITIVE_ACTIONS
from asterism.serving.gathered import GatheredReads
from asterism.serving.interests import Categories
from asterism.serving.popularity import Popularity
from asterism.stores.event_bus import Receipt
from asterism.stores.event_log import Event
from asterism.stores.opening import Hot, open_hot
from asterism.stores.slates import Slate
from asterism.stores.user_state import NO_STATE, Offset, RecentEvent, UserState, Visitor, key_of, warm

logger = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS: Final = 16
_FOLLOW_SECONDS: Final = 5.0
_REST_SECONDS: Final = 1.0  # a store that failed, or was late so often, is not asked again before
_LATE_IN_A_ROW: Final = 3


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
        patience_seconds: float = 0.25,
    ) -> None:
        past = list(past)
        self._stores = stores or open_hot("memory")
        self.states, self.slates, self.limits = self._stores.states, self._stores.slates, self._stores.limits
        self._ids = self._stores.event_ids
        self.is_local = self._stores.client is None
        self.categories = Categories(categories_of)
        self.popularity = Popularity(
            categories_of, (one.event.item_id for one in past if one.event.action in POSITIVE_ACTIONS)
        )
        self._counted: dict[str, int] = {}  # of `popularity`, what came from all gateways
        self._patience_seconds = patience_seconds
        self._asked_again_at = 0.0
        self._told_again_at = 0.0
        self._late = 0  # answers in a row
        self._threads = None if self.is_local else ThreadPoolExecutor(_THREADS, "hot-state")
        self._state_reads: GatheredReads[Visitor, UserState] = GatheredReads(
            lambda keys: self.asked(lambda: self.states.get_many(keys)), patience_seconds
        )
        self._slate_reads: GatheredReads[Visitor, Slate | None] = GatheredReads(
            lambda keys: self.asked(lambda: self.slates.get_many(keys)), patience_seconds
        )
        if self.is_local:
            warm(self.states, past)

    async def state_of(self, visitor: Visitor) -> UserState:
        """The visitor's state; the empty one where the store is down, so that the answer comes from a lower rung."""
        if self.is_local:
            return self.states.get(visitor)
        found = None if visitor.key is None else await self.read_state(visitor.key)
        return NO_STATE if found is None else found

    async def read_state(self, key: Visitor) -> UserState | None:
        """The state under a visitor's key where stores are elsewhere; None where it cannot be had just now."""
        return await _read(self._state_reads, key)

    async def read_slate(self, key: Visitor) -> Slate | None:
        """The slate under a visitor's key where stores are elsewhere; None where there is none, or no answer."""
        return await _read(self._slate_reads, key)

    async def known_ids(self, events: Sequence[Event]) -> list[bool]:
        """Whether each event's id was accepted within the last day; False where nobody can tell."""
        found = await self.asked(lambda: self._known_ids(events))
        return [False] * len(events) if found is None else found

    async def take_in(self, events: Sequence[Event], receipts: Sequence[Receipt]) -> None:
        """Take in what was published just now; where the store is down, the worker's consumer brings it later."""
        if self.is_local:
            self.take_in_here(events, receipts)
            return
        fresh = [(event, one.offset) for event, one in zip(events, receipts, strict=True) if one.is_new]
        if fresh:
            await self.asked(lambda: self._take_in(fresh))

    def take_in_here(self, events: Sequence[Event], receipts: Sequence[Receipt]) -> None:
        """As `take_in`, where the stores are local."""
        for event, one in zip(events, receipts, strict=True):
            if one.is_new:
                self.apply(event)

    async def forget(self, visitor: Visitor) -> None:
        """Delete all that is kept of a visitor; raises `StoreUnavailableError`."""
        if self.is_local:
            self._stores.forget(visitor)
        else:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._stores.forget, visitor)

    async def follow(self) -> None:
        """Hear every few seconds what is wanted at other gateways, until cancelled."""
        while not self.is_local:
            counts = await self.asked(self._stores.counts.read)
            for item_id, count in (counts or {}).items():
                self.popularity.add(item_id, count - self._counted.get(item_id, 0))
                self._counted[item_id] = count
            await asyncio.sleep(_FOLLOW_SECONDS)

    def apply(self, event: Event) -> None:
        """Take in one accepted event, where the stores are local."""
        changed = self.states.apply(Visitor(event.user_id, event.session_id), recent_event(event))
        if changed and event.action in POSITIVE_ACTIONS:
            self.popularity.add(event.item_id)

    def prepared(self, categories_of: Mapping[str, tuple[str, ...]]) -> Callable[[], None]:
        """What makes it rank another catalogue; for any thread, and what it gives for the event loop."""
        categories, popularity = Categories(categories_of), self.popularity.over(categories_of)

        def take_over() -> None:
            popularity.catch_up(self.popularity)
            self.categories, self.popularity = categories, popularity

        return take_over

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

    def _known_ids(self, events: Sequence[Event]) -> list[bool]:
        known: dict[tuple[Visitor, str], bool] = {}
        for visitor, ids in _by_visitor(events).items():
            known |= {
                (visitor, one): is_known for one, is_known in zip(ids, self._ids.known(visitor, ids), strict=True)
            }
        return [known[_visitor(event), event.event_id] for event in events]

    def _take_in(self, fresh: Sequence[tuple[Event, Offset | None]]) -> None:
        for visitor, ids in _by_visitor([event for event, _ in fresh]).items():
            self._ids.remember(visitor, ids)
        wanted = []
        for event, offset in fresh:
            changed = self.states.apply(_visitor(event), recent_event(event), offset, ahead=True)
            if changed and event.action in POSITIVE_ACTIONS:
                wanted.append(event.item_id)
        self._stores.counts.add(wanted)

    async def asked(self, action: Callable[[], T]) -> T | None:
        """What the store says, or None where it does not within our patience."""
        if time.monotonic() < self._asked_again_at:
            return None
        asked = asyncio.get_running_loop().run_in_executor(self._threads, action)
        try:
            found = await asyncio.wait_for(asyncio.shield(asked), self._patience_seconds)
        except TimeoutError:
            asked.add_done_callback(lambda one: one.cancelled() or one.exception())  # it may still fail, unheard
            self._late += 1
            if self._late >= _LATE_IN_A_ROW:
                self._rest(f"no answer within {self._patience_seconds:g} s")
            return None
        except StoreUnavailableError as error:
            self._rest(str(error))
            return None
        except AsterismError as error:  # it answered, so whoever asks it something else is not kept from that
            self._tell_refusal(error)
            return None
        self._late = 0
        return found

    def _tell_refusal(self, error: AsterismError) -> None:
        now = time.monotonic()
        if now >= self._told_again_at:  # who is refused may be refused a thousand times a second
            logger.warning("users' states are as they were: %s", error)
            self._told_again_at = now + _REST_SECONDS

    def _rest(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._asked_again_at:
            logger.warning("users' states are not known just now: %s", reason)
        self._asked_again_at = now + _REST_SECONDS


async def _read(reads: GatheredReads[Visitor, T], key: Visitor) -> T | None:
    try:
        return await reads.of(key)
    except StorageError as error:  # this one's alone, so the store is asked on
        logger.warning("what is kept of a user cannot be read: %s", error)
        return None


def recent_event(event: Event) -> RecentEvent:
    """An event as states keep it."""
    return RecentEvent(event.timestamp, event.item_id, event.action, event.value, event.scene)


def _visitor(event: Event) -> Visitor:
    return key_of(Visitor(event.user_id, event.session_id))


def _by_visitor(events: Sequence[Event]) -> dict[Visitor, list[str]]:
    """Event ids by whose they are, so that a visitor's key is asked once."""
    ids: dict[Visitor, list[str]] = defaultdict(list)
    for event in events:
        ids[_visitor(event)].append(event.event_id)
    return ids
