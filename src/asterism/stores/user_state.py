"""Users' hot state: what they lately wanted, what they have seen, what they do not want."""

from __future__ import annotations

import bisect
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

from asterism.core.errors import StorageError
from asterism.core.records import POSITIVE_ACTIONS, Action

#: Positive events that a user keeps, where no model reads more.
MAX_RECENT = 200
#: Seen and unwanted items that a user keeps, each.
MAX_IDS = 10_000
NEGATIVE_ACTIONS = frozenset({Action.SKIP, Action.DISLIKE})
_FIRST_REVISION_BITS = 48  # drawn, so that a state begun anew meets no slate of the old one; JSON keeps 53
_MOST_CHANGES = 1_000_000  # of a state while a slate of it is made; two draws are further apart


class Visitor(NamedTuple):
    """Who is asking: a user, or an anonymous session; the two never share a state."""

    user_id: str | None = None
    session_id: str | None = None

    @property
    def key(self) -> Visitor | None:
        """What the state is kept under: the user where there is one; None for nobody in particular."""
        if self.user_id is not None:
            return self if self.session_id is None else Visitor(user_id=self.user_id)
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


@dataclass(frozen=True)
class UserState:
    """A snapshot; `recent` and `negative` are ordered, oldest first.

    `revision` is another one after every change of the rest, and is not repeated by a state that was forgotten and
    begun anew; 0 is nobody's.
    """

    recent: tuple[RecentEvent, ...] = ()
    seen: frozenset[str] = frozenset()
    negative: tuple[str, ...] = ()
    revision: int = field(default=0, compare=False)

    @cached_property
    def left_out(self) -> frozenset[str]:
        """What no answer may hold: seen and unwanted items."""
        return self.seen.union(self.negative) if self.negative else self.seen

    def holds(self, event: RecentEvent) -> bool:
        """Whether it took in a positive or negative event; of one as old as its oldest, whether it took in the item."""
        if event.action in NEGATIVE_ACTIONS:
            return event.item_id in self.negative or any(
                one.item_id == event.item_id and one.timestamp >= event.timestamp for one in self.recent
            )
        if event.item_id not in self.seen:
            return False
        is_old = not self.recent or event.timestamp <= self.recent[0].timestamp
        return is_old or any(event.repeats(one) for one in reversed(self.recent))

    def came_of(self, revision: int) -> bool:
        """Whether it is the state that had this revision, or came of it; one that was begun anew since did not."""
        return self.revision != 0 and 0 <= self.revision - revision < _MOST_CHANGES


NO_STATE = UserState()


class Offset(NamedTuple):
    """Where an event stood on the bus: what was delivered twice is told by it."""

    partition: str
    number: int


class UserStates(Protocol):
    """States by visitor; reading one that nobody wrote gives the empty state and creates nothing.

    Every method may be called from any thread; of many clients, each sees the others' events.
    """

    def get(self, visitor: Visitor) -> UserState:
        """A snapshot of the visitor's state, the same object until the state changes."""
        ...

    def get_many(self, visitors: Sequence[Visitor]) -> list[UserState | StorageError]:
        """Each visitor's state as `get` gives it, asked for at once, or why this one cannot be read.

        Raises `ValueError` for nobody in particular, `StoreUnavailableError`.
        """
        ...

    def last_known(self, visitor: Visitor) -> UserState:
        """What this process knows of the state without asking anybody; it may be empty, or behind."""
        ...

    def apply(self, visitor: Visitor, event: RecentEvent, offset: Offset | None = None, *, ahead: bool = False) -> bool:
        """Take in one event; False if exactly this one was there already, or its offset was.

        Offsets come in order from one consumer of the bus. Who published an event may bring it before that
        consumer does, out of order, with `ahead`: then the consumer's delivery of it changes nothing.
        """
        ...

    def known(self, visitor: Visitor) -> bool:
        """Whether anything was ever written for the visitor."""
        ...

    def forget(self, visitor: Visitor) -> None:
        """Delete the visitor's state, which begins without their earlier events where they come back."""
        ...

    def users_held(self) -> list[str]:
        """Users of whom this process has a copy of what stands elsewhere."""
        ...

    def let_go(self, user_ids: Iterable[str]) -> None:
        """Drop the copies of what was known of users; what stands elsewhere stays."""
        ...

    def sample_users(self, count: int) -> list[str]:
        """Some users with a history, spread evenly over all of them, always the same ones."""
        ...

    def __len__(self) -> int: ...


@dataclass(slots=True)
class KeptState:
    """A state while it changes; the same for every store, so that all of them agree."""

    recent: list[RecentEvent] = field(default_factory=list)
    seen: dict[str, None] = field(default_factory=dict)  # dicts, for their order: the oldest leaves first
    negative: dict[str, None] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)  # the last one that the consumer brought, by partition
    ahead: dict[str, list[int]] = field(default_factory=dict)  # later ones, which publishers brought before it
    revision: int = 0
    _snapshot: UserState | None = None

    def snapshot(self) -> UserState:
        """The state as readers get it; made once for all readers between two changes."""
        if self._snapshot is None:
            self._snapshot = UserState(tuple(self.recent), frozenset(self.seen), tuple(self.negative), self.revision)
        return self._snapshot

    def apply(
        self, event: RecentEvent, offset: Offset | None, max_recent: int, max_ids: int, *, ahead: bool = False
    ) -> bool:
        """See `UserStates.apply`; an impression changes nothing."""
        if offset is not None and not self._is_due(offset, ahead, max_ids):
            if not ahead or not self._is_of_a_new_log(event, offset):
                return False
            self.offsets[offset.partition], self.ahead[offset.partition] = offset.number - 1, [offset.number]
        if event.action in NEGATIVE_ACTIONS:
            self._change()  # also by what was unwanted before: it is the newest now
            return _remember(self.negative, event.item_id, max_ids)
        if event.action not in POSITIVE_ACTIONS:
            return False
        place = self._place_of(event.timestamp)
        if self._has(event, place):
            return False
        self._change()
        self.recent.insert(place, event)
        del self.recent[:-max_recent]
        _remember(self.seen, event.item_id, max_ids)
        self.negative.pop(event.item_id, None)
        return True

    def _place_of(self, timestamp: int) -> int:
        """Behind all that is not newer; of what comes in time nothing is."""
        if not self.recent or self.recent[-1].timestamp <= timestamp:
            return len(self.recent)
        return bisect.bisect_right(self.recent, timestamp, key=lambda one: one.timestamp)

    def _has(self, event: RecentEvent, place: int) -> bool:
        """Whether one of the same second, before this place, is the same event."""
        while place > 0 and self.recent[place - 1].timestamp == event.timestamp:
            place -= 1
            if event.repeats(self.recent[place]):
                return True
        return False

    def begin(self) -> None:
        """Give a state that is written for the first time a revision that none before it had."""
        self._snapshot, self.revision = None, 1 + secrets.randbits(_FIRST_REVISION_BITS)

    def _change(self) -> None:
        if self.revision:
            self._snapshot, self.revision = None, self.revision + 1
        else:
            self.begin()

    def _is_of_a_new_log(self, event: RecentEvent, offset: Offset) -> bool:
        """Whether it was published where the consumer has long been, and yet is not here: a bus that lost what it held.

        Its offsets begin anew, and all would be taken for brought already until they have grown past the old ones.
        """
        if event.action not in POSITIVE_ACTIONS:  # what was unwanted is forgotten once it is wanted: no sign
            return False
        return offset.number <= self.offsets.get(offset.partition, -1) and not self.snapshot().holds(event)

    def _is_due(self, offset: Offset, ahead: bool, max_ahead: int) -> bool:
        """Whether nobody brought this offset yet; of too many brought ahead, the consumer brings the rest."""
        partition, number = offset
        if number <= self.offsets.get(partition, -1):
            return False
        brought = self.ahead.get(partition, [])
        if ahead:
            if number in brought or len(brought) >= max_ahead:
                return False
            self.ahead[partition] = [*brought, number]
            return True
        self.offsets[partition] = number
        self.ahead[partition] = [one for one in brought if one > number]
        if not self.ahead[partition]:
            del self.ahead[partition]
        return number not in brought


def _remember(ids: dict[str, None], item_id: str, max_ids: int) -> bool:
    known = item_id in ids
    ids.pop(item_id, None)
    ids[item_id] = None
    while len(ids) > max_ids:
        del ids[next(iter(ids))]
    return not known


def key_of(visitor: Visitor) -> Visitor:
    """What an event's state is kept under; raises `ValueError` for nobody in particular."""
    key = visitor.key
    if key is None:
        raise ValueError("an event needs a user or a session")
    return key


class LocalUserStates:
    """Implements `UserStates` in the memory of one process.

    A user keeps `max_recent` positive events and `max_ids` seen and unwanted items each.
    """

    def __init__(self, max_recent: int = MAX_RECENT, max_ids: int = MAX_IDS) -> None:
        self._max_recent = max_recent
        self._max_ids = max_ids
        self._kept: dict[Visitor, KeptState] = {}
        self._lock = threading.Lock()

    def get(self, visitor: Visitor) -> UserState:
        """See `UserStates.get`."""
        key = visitor.key
        if key is None:
            return NO_STATE
        with self._lock:
            kept = self._kept.get(key)
            return NO_STATE if kept is None else kept.snapshot()

    def get_many(self, visitors: Sequence[Visitor]) -> list[UserState | StorageError]:
        """See `UserStates.get_many`."""
        return [self.get(key_of(one)) for one in visitors]

    def last_known(self, visitor: Visitor) -> UserState:
        """See `UserStates.last_known`."""
        return self.get(visitor)

    def apply(self, visitor: Visitor, event: RecentEvent, offset: Offset | None = None, *, ahead: bool = False) -> bool:
        """See `UserStates.apply`."""
        with self._lock:
            key = key_of(visitor)
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = KeptState()
            return kept.apply(event, offset, self._max_recent, self._max_ids, ahead=ahead)

    def known(self, visitor: Visitor) -> bool:
        """See `UserStates.known`."""
        return visitor.key in self._kept

    def forget(self, visitor: Visitor) -> None:
        """See `UserStates.forget`."""
        with self._lock:
            self._kept.pop(key_of(visitor), None)

    def users_held(self) -> list[str]:
        """See `UserStates.users_held`; here the states themselves stand."""
        return []

    def let_go(self, user_ids: Iterable[str]) -> None:
        """See `UserStates.let_go`."""

    def sample_users(self, count: int) -> list[str]:
        """See `UserStates.sample_users`."""
        with self._lock:
            users = [one.user_id for one, kept in self._kept.items() if one.user_id is not None and kept.recent]
        step = max(1, len(users) // max(1, count))
        return users[::step][:count]

    def __len__(self) -> int:
        return len(self._kept)


def warm(states: UserStates, rows: Iterable[tuple[str, RecentEvent]]) -> int:
    """Take in users' earlier events; returns how many were new."""
    return sum(states.apply(Visitor(user_id=user_id), event) for user_id, event in rows)
