"""What is known of a visitor, hot, warm and cold, under one schema that has a version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from asterism.core.errors import StorageError, UnknownIdError
from asterism.serving.hot_state import HotState
from asterism.stores.event_log import Event
from asterism.stores.used_features import SCHEMA
from asterism.stores.user_state import UserState, Visitor
from asterism.stores.users import Attribute, Users


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """A visitor's features; what a store could not tell is named in `missing`, and empty."""

    visitor: Visitor
    state: UserState  # hot: what they lately wanted, have seen, do not want; the model reads this
    interests: Mapping[str, float]  # warm: shares by category, largest first
    segment: str | None  # warm: the category that tells most
    attributes: Mapping[str, Attribute] = field(default_factory=dict)  # warm: of the user, as they were imported
    history: tuple[Event, ...] = ()  # cold: the newest behaviours, oldest first, with those that no state keeps
    missing: frozenset[str] = frozenset()
    schema: int = SCHEMA


class UserFeatureService:
    """Gathers features for one event loop; a store that is down leaves a gap, and nothing more."""

    def __init__(self, hot: HotState, users: Users) -> None:
        self._hot = hot
        self._users = users

    async def of(self, visitor: Visitor, *, history: int = 0) -> UserFeatures:
        """A visitor's features, with so many of their newest behaviours."""
        state, (attributes, behaviours, missing) = await asyncio.gather(
            self._hot.state_of(visitor), asyncio.to_thread(self._kept, visitor, history)
        )
        return UserFeatures(
            visitor,
            state,
            self._hot.interests(state),
            self._hot.segment(state),
            attributes,
            tuple(behaviours),
            frozenset(missing),
        )

    def _kept(self, visitor: Visitor, history: int) -> tuple[Mapping[str, Attribute], list[Event], list[str]]:
        attributes: Mapping[str, Attribute] = {}
        behaviours: list[Event] = []
        missing = []
        try:
            if visitor.user_id is not None:
                attributes = self._users.get(visitor.user_id).attributes
        except UnknownIdError:
            pass
        except StorageError:
            missing.append("attributes")
        try:
            if history and visitor.key is not None:
                behaviours = self._users.history(visitor, history)
        except StorageError:
            missing.append("history")
        return attributes, behaviours, missing
