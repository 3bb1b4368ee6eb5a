"""What an answer was made from, as the exposure log keeps it: enough to ask the engine the same again.

A visitor's state is written once for all answers that were made from it, and named by its digest after that.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Container
from typing import Final, NamedTuple

import msgspec

from asterism.core.errors import StorageError
from asterism.stores.user_state import NO_STATE, RecentEvent, UserState, Visitor
from asterism.stores.users import those_meant

#: Of the features as they are logged; it grows with every change that an older reader would misread.
SCHEMA: Final = 1
_WRITTEN: Final = 20_000  # states that the writer knows to be in the log
_SPARED: Final = 50  # at most, for each that comes, so that no look at them all holds the interpreter
_READ: Final = 100_000  # states that a reader keeps; more, so that none is missed that was named late


class Bounds(NamedTuple):
    """What every item must answer: one of the categories, if any is named, and a price."""

    categories: tuple[str, ...]
    lowest_price: float | None
    highest_price: float | None


class UsedFeatures(NamedTuple):
    """A visitor's state, and what was asked; `asked` is 0 where no model answered after this state."""

    state: UserState
    at_seconds: float  # Unix, when the engine was asked
    asked: int  # items
    scene: str | None = None
    device: str | None = None
    more_excluded: frozenset[str] = frozenset()  # beyond what the state leaves out
    wanted: Bounds | None = None
    allowed: frozenset[str] | None = None


class WrittenFeatures(msgspec.Struct, array_like=True):
    """Used features as a line of the log holds them."""

    schema: int
    state: str  # its digest; empty for the empty state
    revision: int
    at_seconds: float
    asked: int
    scene: str | None
    device: str | None
    more_excluded: list[str]
    wanted: Bounds | None
    allowed: list[str] | None


class _Packed(msgspec.Struct, array_like=True):
    recent: list[RecentEvent]
    seen: list[str]
    negative: list[str]


_decode: Final = msgspec.msgpack.Decoder(_Packed).decode


class KnownState:
    """A state that was written to the log, by its digest; `is_known` until its writer no longer knows of it.

    Whoever names it sets `was_named`, from any thread, and so it stays known for longer.
    """

    __slots__ = ("is_known", "name", "was_named")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_known = True
        self.was_named = False


class FeatureWriter:
    """From features to what a line holds; for one thread."""

    def __init__(self) -> None:
        self._written: OrderedDict[tuple[Visitor, int], KnownState] = OrderedDict()

    def written(self, visitor: Visitor, used: UsedFeatures) -> tuple[WrittenFeatures, bytes | None]:
        """The features, and the packed state where it is not in the log yet."""
        name, packed = self._named(visitor, used.state)
        line = WrittenFeatures(
            SCHEMA,
            name,
            used.state.revision,
            used.at_seconds,
            used.asked,
            used.scene,
            used.device,
            sorted(used.more_excluded),
            used.wanted,
            None if used.allowed is None else sorted(used.allowed),
        )
        return line, packed

    def known(self, visitor: Visitor | None, used: UsedFeatures | None) -> KnownState | None:
        """The state that these name, as the log holds it; None where they name none, or none that is known."""
        if visitor is None or used is None:
            return None
        return self._written.get((visitor, used.state.revision))

    def forget(self, digests: Container[str]) -> None:
        """Hold nothing of users, by their `digest_of`; what they are shown after that names no state of before."""
        users = {visitor.user_id for visitor, _ in self._written if visitor.user_id is not None}
        meant = those_meant(digests, users)
        for key in [one for one in self._written if one[0].user_id in meant]:
            self._written.pop(key).is_known = False

    def start_anew(self) -> None:
        """What was written last may not be in the log: write every state again."""
        for one in self._written.values():
            one.is_known = False
        self._written.clear()

    def _named(self, visitor: Visitor, state: UserState) -> tuple[str, bytes | None]:
        if state == NO_STATE:
            return "", None
        key = (visitor, state.revision)
        known = self._written.get(key)
        if known is not None:
            known.was_named = True
            return known.name, None
        plain = msgspec.msgpack.encode(_Packed(list(state.recent), sorted(state.seen), list(state.negative)))
        name = hashlib.blake2b(plain, digest_size=8).hexdigest()
        self._written[key] = KnownState(name)
        while len(self._written) > _WRITTEN:
            self._let_go()
        return name, zlib.compress(plain, 1)

    def _let_go(self) -> None:
        """Of the oldest that was not named since it was last about to leave, if one of a few is such."""
        for _ in range(_SPARED):
            key, oldest = self._written.popitem(last=False)
            if not oldest.was_named:
                break
            oldest.was_named = False
            self._written[key] = oldest
        else:
            _, oldest = self._written.popitem(last=False)
        oldest.is_known = False


class FeatureReader:
    """From lines to features, in the order in which they were written."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, _Packed] = OrderedDict()

    def read(self, line: WrittenFeatures, packed: bytes | None) -> UsedFeatures | None:
        """The features; None where the state they name was erased. Raises `StorageError` on a schema to come."""
        if line.schema > SCHEMA:
            raise StorageError(
                f"features of schema {line.schema} were logged, and this version reads {SCHEMA}; upgrade Asterism"
            )
        if packed is not None:
            self._states[line.state] = _decode(zlib.decompress(packed))
            while len(self._states) > _READ:
                self._states.popitem(last=False)
        state = NO_STATE
        if line.state:
            found = self._states.get(line.state)
            if found is None:
                return None
            self._states.move_to_end(line.state)
            state = UserState(tuple(found.recent), frozenset(found.seen), tuple(found.negative), line.revision)
        return UsedFeatures(
            state,
            line.at_seconds,
            line.asked,
            line.scene,
            line.device,
            frozenset(line.more_excluded),
            line.wanted,
            None if line.allowed is None else frozenset(line.allowed),
        )
