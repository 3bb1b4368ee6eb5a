"""Users' hot state: what they lately wanted, what they have seen, what they do not want."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple, Protocol

from asterism.core.records import POSITIVE_ACTIONS, Action

#: Positive events that a user keeps, where no model reads more.
MAX_RECENT = 200
NEGATIVE_ACTIONS = frozenset({Action.SKIP, Action.DISLIKE})


class Visitor(NamedTuple):
    """Who is asking: a user, or an anonymous session; the two never share a state."""

    user_id: str | None = None
    session_id: str | None = None

    @property
    def key(self) -> Visitor | None:
        """What the state is kept under: the user where there is one; None for nobody in particular."""
        if self.user_id is not None:
            return Visitor(user_id=self.user_id)
        return Visitor(session_id=self.session_id) if self.session_id is not None else None


class RecentEvent(NamedTuple):
    """A positive event as the model reads it."""

    timestamp: int  # Unix seconds
    item_id: str
    action: Action
    value: float | None = None  # rating, dwell seconds
    scene: str | None = None
    device: str | None = None

    def repeats(self, other: RecentEvent) -> bool:
        """Whether both tell of the same act, however much each knows of it."""
        return self[:3] == other[:3]


@dataclass(frozen=True, slots=True)
class UserState:
    """A snapshot; `recent` and `negative` are ordered, oldest first."""

    recent: tuple[RecentEvent, ...] = ()
    seen: frozenset[str] = frozenset()
    negative: tuple[str, ...] = ()


NO_STATE = UserState()


class UserStates(Protocol):
    """States by visitor; reading one that nobody wrote gives the empty state and creates nothing."""

    def get(self, visitor: Visitor) -> UserState:
        """A snapshot of the visitor's state."""
        ...

    def apply(self, visitor: Visitor, event: RecentEvent) -> bool:
        """Take in one event; False if exactly this one was there already."""
        ...

    def known(self, visitor: Visitor) -> bool:
        """Whether anything was ever written for the visitor."""
        ...

    def sample_users(self, count: int) -> list[str]:
        """Some users with a history, spread evenly over all of them, always the same ones."""
        ...

    def __len__(self) -> int: ...


@dataclass(slots=True)
class _Kept:
    recent: list[RecentEvent] = field(default_factory=list)
    seen: dict[str, None] = field(default_factory=dict)  # dicts, for their order: the oldest leaves first
    negative: dict[str, None] = field(default_factory=dict)


class LocalUserStates:
    """Implements `UserStates` in the memory of one process, for one thread.

    A user keeps `max_recent` positive events and `max_ids` seen and unwanted items each.
    """

    def __init__(self, max_recent: int = MAX_RECENT, max_ids: int = 10_000) -> None:
        self._max_recent = max_recent
        self._max_ids = max_ids
        self._kept: dict[Visitor, _Kept] = {}

    def get(self, visitor: Visitor) -> UserState:
        """See `UserStates.get`."""
        kept = self._kept.get(visitor.key) if visitor.key else None
        if kept is None:
            return NO_STATE
        return UserState(tuple(kept.recent), frozenset(kept.seen), tuple(kept.negative))

    def apply(self, visitor: Visitor, event: RecentEvent) -> bool:
        """See `UserStates.apply`; an impression changes nothing."""
        if visitor.key is None:
            raise ValueError("an event needs a user or a session")
        kept = self._kept.setdefault(visitor.key, _Kept())
        if event.action in NEGATIVE_ACTIONS:
            return self._remember(kept.negative, event.item_id)
        if event.action not in POSITIVE_ACTIONS:
            return False
        place = bisect.bisect_right(kept.recent, event.timestamp, key=lambda one: one.timestamp)
        same_second = takewhile(lambda one: one.timestamp == event.timestamp, reversed(kept.recent[:place]))
        if any(event.repeats(one) for one in same_second):
            return False
        kept.recent.insert(place, event)
        del kept.recent[: -self._max_recent]
        self._remember(kept.seen, event.item_id)
        kept.negative.pop(event.item_id, None)
        return True

    def known(self, visitor: Visitor) -> bool:
        """See `UserStates.known`."""
        return visitor.key in self._kept

    def sample_users(self, count: int) -> list[str]:
        """See `UserStates.sample_users`."""
        users = [one.user_id for one, kept in self._kept.items() if one.user_id is not None and kept.recent]
        step = max(1, len(users) // max(1, count))
        return users[::step][:count]

    def __len__(self) -> int:
        return len(self._kept)

    def _remember(self, ids: dict[str, None], item_id: str) -> bool:
        known = item_id in ids
        ids.pop(item_id, None)
        ids[item_id] = None
        while len(ids) > self._max_ids:
            del ids[next(iter(ids))]
        return not known


def warm(states: UserStates, rows: Iterable[tuple[str, RecentEvent]]) -> int:
    """Take in users' earlier events; returns how many were new."""
    return sum(states.apply(Visitor(user_id=user_id), event) for user_id, event in rows)
