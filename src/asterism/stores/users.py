"""The users port: who they are, and what they did, as the warm truth."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from asterism.stores.event_log import Event
from asterism.stores.user_state import Visitor

Attribute = str | float | bool | None
NOBODY_YET: Final = -1  # before the first who was ever forgotten
_SLICE: Final = 500  # digests, of some 1 µs each
_LET_IN_SECONDS: Final = 0.0005  # with none, whoever lets go of the interpreter mostly has it again at once


@dataclass(frozen=True, slots=True)
class User:
    """A user and the attributes that are known."""

    user_id: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


class Forgotten(NamedTuple):
    """Who was forgotten, by `digest_of`, and when in Unix seconds; `number` is that of the last change among them."""

    at_seconds: Mapping[str, int]
    number: int


def digest_of(user_id: str) -> str:
    """What stays of a user who was forgotten: who has the id can tell that it was, and nobody can tell the id."""
    return hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16, person=b"forgotten").hexdigest()


def those_meant(digests: Container[str], user_ids: Iterable[str]) -> set[str]:
    """Those of these users whose `digest_of` is among these; lets other threads in after each half millisecond."""
    meant = set()
    for place, user_id in enumerate(user_ids):
        if digest_of(user_id) in digests:
            meant.add(user_id)
        if place % _SLICE == _SLICE - 1:
            time.sleep(_LET_IN_SECONDS)
    return meant


class Users(Protocol):
    """Users by id, and behaviours by visitor; every method may be called from any thread."""

    def upsert(self, users: Iterable[User]) -> None:
        """Add users, or replace all that was known of them."""
        ...

    def get(self, user_id: str) -> User:
        """One user; raises `UnknownIdError`."""
        ...

    def forget(self, user_id: str, at: int) -> bool:
        """Delete a user and all their behaviours, and keep their digest; whether there was anything."""
        ...

    def forget_behaviours(self, user_id: str) -> bool:
        """Delete a user's behaviours alone; whether there were any."""
        ...

    def forgotten(self, after: int = NOBODY_YET) -> Forgotten:
        """Who was forgotten behind the change of a number, once more where it was not for the first time."""
        ...

    def export(self, after: str = "") -> Iterator[User]:
        """All users behind an id, in order of id, read in parts."""
        ...

    def record(self, events: Sequence[Event]) -> list[bool]:
        """Keep what visitors did, all or none: True where new, False where the visitor's `event_id` was known."""
        ...

    def history(self, visitor: Visitor, count: int) -> list[Event]:
        """The newest `count` behaviours, oldest first."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Let go of all connections."""
        ...
