"""What feedback changes in memory: users' states and popularity; live and on replay by the same code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from asterism.core.clock import SystemClock
from asterism.core.errors import AsterismError
from asterism.core.records import POSITIVE_ACTIONS
from asterism.serving.interests import Categories
from asterism.serving.popularity import Popularity
from asterism.stores.event_log import Event
from asterism.stores.slates import LocalSlates, Slates
from asterism.stores.user_state import LocalUserStates, RecentEvent, UserState, UserStates, Visitor, warm

T = TypeVar("T")


class PastEvent(NamedTuple):
    """A user's event from before this service ran."""

    user_id: str
    event: RecentEvent


class HotState:
    """States, popularity and categories, kept in step; for one thread."""

    def __init__(
        self,
        categories_of: Mapping[str, tuple[str, ...]],
        past: Iterable[PastEvent] = (),
        states: UserStates | None = None,
        slates: Slates | None = None,
    ) -> None:
        past = list(past)
        self.states = states if states is not None else LocalUserStates()
        self.slates = slates if slates is not None else LocalSlates(SystemClock())
        self.is_local = True
        self.categories = Categories(categories_of)
        self.popularity = Popularity(
            categories_of, (one.event.item_id for one in past if one.event.action in POSITIVE_ACTIONS)
        )
        warm(self.states, past)

    async def asked(self, action: Callable[[], T]) -> T | None:
        """What a store elsewhere says, or None where it fails."""
        try:
            return await asyncio.to_thread(action)
        except AsterismError:
            return None

    def apply(self, event: Event) -> None:
        """Take in one accepted event."""
        recent = RecentEvent(event.timestamp, event.item_id, event.action, event.value, event.scene)
        changed = self.states.apply(Visitor(event.user_id, event.session_id), recent)
        if changed and event.action in POSITIVE_ACTIONS:
            self.popularity.add(event.item_id)

    def segment(self, state: UserState) -> str | None:
        """The category whose popular items suit a state best."""
        return self.categories.segment(state.recent)

    def interests(self, state: UserState) -> dict[str, float]:
        """Interest shares by category, largest first."""
        return self.categories.interests(state.recent)
