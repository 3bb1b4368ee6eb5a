"""Users' states, slates and rate limits in Redis, single or cluster."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from asterism.core.clock import Clock
from asterism.core.errors import StorageError
from asterism.core.semantic_id import SemanticId
from asterism.stores.rate_limits import JUMP_SECONDS, Grant, Rate
from asterism.stores.redis_client import Commands, RedisClient, Versioned, tagged, untagged
from asterism.stores.slates import MAX_AGE_SECONDS, ScoredItem, Slate
from asterism.stores.user_state import (
    MAX_IDS,
    MAX_RECENT,
    NO_STATE,
    KeptState,
    Offset,
    RecentEvent,
    UserState,
    Visitor,
    key_of,
)
from asterism.stores.users import digest_of

STATE_TTL_SECONDS: Final = 90 * 86_400.0  # since the visitor's last event
_SAMPLED_USERS: Final = 1_000
_KNOWN_STATES: Final = 20_000
#: By then whoever did not hear from the database who was forgotten has heard of it, or was started again.
_NO_PAST_SECONDS: Final = 86_400


class _State(msgspec.Struct, array_like=True):
    recent: list[RecentEvent]
    seen: list[str]
    negative: list[str]
    offsets: dict[str, int]
    ahead: dict[str, list[int]] = {}
    revision: int = 0

    def kept(self) -> KeptState:
        seen, negative = dict.fromkeys(self.seen), dict.fromkeys(self.negative)
        return KeptState(self.recent, seen, negative, self.offsets, self.ahead, self.revision)


_STATE: Final = msgspec.msgpack.Decoder(_State)


class RedisUserStates:
    """Implements `UserStates`: a value a visitor, set only if nobody else was faster.

    A visitor of whom nothing was written has the state that their `earlier` events make, which is written
    with their first event. A state leaves `ttl_seconds` after its last event. `sample_users` draws from the
    thousand users whose names hash lowest, which is an even sample of all. Of the 20 000 visitors read last the
    snapshots are kept here, so that of a state which has not changed only the version is asked.

    Who was forgotten lately is named by a digest, for those whose `earlier` events still hold them.
    """

    def __init__(
        self,
        client: RedisClient,
        max_recent: int = MAX_RECENT,
        max_ids: int = MAX_IDS,
        ttl_seconds: float = STATE_TTL_SECONDS,
        earlier: Callable[[Visitor], Iterable[RecentEvent]] = lambda _: (),
    ) -> None:
        self._client = client
        self._earlier = earlier
        self._max_recent = max_recent
        self._max_ids = max_ids
        self._values = Versioned(client, ttl_seconds)
        self._sample_key = f"{client.prefix}:sample"
        self._known = _KnownStates(_KNOWN_STATES)

    def get(self, visitor: Visitor) -> UserState:
        """See `UserStates.get`."""
        if visitor.key is None:
            return NO_STATE
        (found,) = self.get_many([visitor])
        if isinstance(found, StorageError):
            raise found
        return found

    def get_many(self, visitors: Sequence[Visitor]) -> list[UserState | StorageError]:
        """See `UserStates.get_many`."""
        owners = [key_of(one) for one in visitors]
        keys = [self._client.key("state", one) for one in owners]
        known = [self._known.get(one) for one in owners]
        asked = [(key, b"" if one is None else one[0]) for key, one in zip(keys, known, strict=True)]
        # Of whom a state was known and is gone, no past is taken up before the next look.
        marks = ["" if version else self._mark_of(owner) for owner, (_, version) in zip(owners, asked, strict=True)]
        found, marked = self._values.read_many_unless(asked, [one for one in marks if one])
        states: list[UserState | StorageError] = []
        for place, one in enumerate(found):
            has_past = marks[place] != "" and marks[place] not in marked
            try:
                if isinstance(one, StorageError):
                    raise one
                states.append(self._snapshot(owners[place], known[place], one, has_past))
            except StorageError as error:
                states.append(error)
        return states

    def last_known(self, visitor: Visitor) -> UserState:
        """See `UserStates.last_known`."""
        if visitor.key is None:
            return NO_STATE
        known = self._known.get(visitor.key)
        return known[1] if known is not None and known[0] else self._kept(visitor.key, None).snapshot()

    def apply(self, visitor: Visitor, event: RecentEvent, offset: Offset | None = None, *, ahead: bool = False) -> bool:
        """See `UserStates.apply`; atomic among any number of clients."""
        owner = key_of(visitor)

        def change(value: bytes | None) -> tuple[bytes, tuple[bool, bool]]:
            kept = self._begun(owner) if value is None else self._decode(value)
            if value is None:
                kept.begin()
            had_history = value is not None and bool(kept.recent)
            changed = kept.apply(event, offset, self._max_recent, self._max_ids, ahead=ahead)
            return _encode(kept), (changed, bool(kept.recent) and not had_history)

        changed, is_first = self._values.update(self._client.key("state", owner), change)
        if is_first and owner.user_id is not None:
            self._sample(owner.user_id)
        return changed

    def known(self, visitor: Visitor) -> bool:
        """See `UserStates.known`."""
        if visitor.key is None:
            return False
        key, mark = self._client.key("state", visitor.key), self._mark_of(visitor.key)
        if self._client.call(lambda redis: redis.exists(key)):
            return True
        return bool(mark) and not self._client.call(lambda redis: redis.exists(mark))

    def forget(self, visitor: Visitor) -> None:
        """See `UserStates.forget`."""
        owner = key_of(visitor)
        key = self._client.key("state", owner)
        if owner.user_id is not None:  # first, so that nobody begins the state anew with what came before
            mark, name = self._mark(owner.user_id), tagged(owner.user_id)
            self._client.call(lambda redis: redis.set(mark, b"", px=_NO_PAST_SECONDS * 1000))
            self._client.call(lambda redis: redis.zrem(self._sample_key, name))
        self._client.call(lambda redis: redis.delete(key))
        self._known.drop([owner])

    def users_held(self) -> list[str]:
        """See `UserStates.users_held`."""
        return self._known.users()

    def let_go(self, user_ids: Iterable[str]) -> None:
        """See `UserStates.let_go`."""
        self._known.drop(Visitor(one) for one in user_ids)

    def sample_users(self, count: int) -> list[str]:
        """See `UserStates.sample_users`."""
        names: list[bytes] = self._client.call(lambda redis: redis.zrange(self._sample_key, 0, 2 * count))
        users = (untagged(name.decode()) for name in names)
        return [user for user in users if self.get(Visitor(user_id=user)).recent][:count]

    def __len__(self) -> int:
        """Counted by a walk over all keys: for people and tests, not for requests."""
        pattern = f"{self._client.prefix}:state:*"
        return self._client.call(lambda redis: sum(1 for _ in redis.scan_iter(match=pattern, count=1_000)))

    def _snapshot(
        self,
        visitor: Visitor,
        known: tuple[bytes, UserState] | None,
        found: tuple[bytes, bytes | None],
        has_past: bool,
    ) -> UserState:
        version, value = found
        if not version and value is None and not has_past:
            if known is not None:
                self._known.drop([visitor])
            return NO_STATE
        if known is not None and version == known[0] and value is None:
            return known[1]
        state = self._kept(visitor, value).snapshot()
        self._known.put(visitor, version, state)
        return state

    def _begun(self, visitor: Visitor) -> KeptState:
        """A state that nobody wrote, without a past that another process forgot while we did not hear it."""
        mark = self._mark_of(visitor)
        is_marked = bool(mark) and self._client.call(lambda redis: redis.exists(mark))
        return KeptState() if is_marked else self._kept(visitor, None)

    def _mark_of(self, visitor: Visitor) -> str:
        """The key that says of a visitor with earlier events that they were forgotten; empty for all others."""
        has_past = any(True for _ in self._earlier(visitor))
        return self._mark(visitor.user_id) if has_past and visitor.user_id is not None else ""

    def _mark(self, user_id: str) -> str:
        return f"{self._client.prefix}:forgotten:{digest_of(user_id)}"

    def _kept(self, visitor: Visitor, value: bytes | None) -> KeptState:
        if value is not None:
            return self._decode(value)
        kept = KeptState()
        for event in self._earlier(visitor):
            kept.apply(event, None, self._max_recent, self._max_ids)
        kept.revision = len(kept.recent)  # the same in every process that reads it
        return kept

    def _decode(self, value: bytes) -> KeptState:
        try:
            return _STATE.decode(value).kept()
        except msgspec.DecodeError as error:
            raise StorageError(
                f"Redis at {self._client.reach.where} holds a state that is none ({error}); "
                f"delete the keys {self._client.prefix}:state:* or choose another ?prefix="
            ) from error

    def _sample(self, user_id: str) -> None:
        name = tagged(user_id)
        score = zlib.crc32(name.encode())
        self._client.call(lambda redis: redis.eval(_KEEP_LOWEST, 1, self._sample_key, score, name, _SAMPLED_USERS))


def _encode(kept: KeptState) -> bytes:
    state = _State(kept.recent, list(kept.seen), list(kept.negative), kept.offsets, kept.ahead, kept.revision)
    return msgspec.msgpack.encode(state)


class _KnownStates:
    """Snapshots by visitor with the version they had; of too many, the one read longest ago leaves first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Visitor, tuple[bytes, UserState]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, visitor: Visitor) -> tuple[bytes, UserState] | None:
        return self._kept.get(visitor)

    def put(self, visitor: Visitor, version: bytes, state: UserState) -> None:
        with self._lock:
            self._kept[visitor] = (version, state)
            self._kept.move_to_end(visitor)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def users(self) -> list[str]:
        with self._lock:
            return [one.user_id for one in self._kept if one.user_id is not None]

    def drop(self, visitors: Iterable[Visitor]) -> None:
        with self._lock:
            for one in visitors:
                self._kept.pop(one, None)


_KEEP_LOWEST: Final = """
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], ARGV[3], -1)
return 1
"""


class _Slate(msgspec.Struct, array_like=True):
    at_seconds: float
    items: list[tuple[str, float, SemanticId]]
    revision: int = 0  # from here on, what an older Asterism did not write: never valid, but still to fall back on
    bundle_version: str = ""
    scene: str | None = None
    device: str | None = None
    asked: int = 0
    degraded: bool = False


_SLATE: Final = msgspec.msgpack.Decoder(_Slate)


class RedisSlates:
    """Implements `Slates`; Redis drops what is too old, and the clock decides what is served."""

    def __init__(self, client: RedisClient, clock: Clock, max_age_seconds: float = MAX_AGE_SECONDS) -> None:
        self._client = client
        self._clock = clock
        self._max_age_seconds = max_age_seconds

    def keep(self, visitor: Visitor, slate: Slate) -> None:
        """See `Slates.keep`."""
        self._client.call(self._keeping(visitor, slate))

    def keep_many(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[StorageError | None]:
        """See `Slates.keep_many`."""
        found = self._client.call_together([self._keeping(visitor, slate) for visitor, slate in slates])
        return [one if isinstance(one, StorageError) else None for one in found]

    def get(self, visitor: Visitor) -> Slate | None:
        """See `Slates.get`."""
        return self._slate(self._client.call(self._getting(visitor)))

    def get_many(self, visitors: Sequence[Visitor]) -> list[Slate | StorageError | None]:
        """See `Slates.get_many`."""
        found = self._client.call_together([self._getting(one) for one in visitors])
        return [one if isinstance(one, StorageError) else self._slate(one) for one in found]

    def forget(self, visitor: Visitor) -> None:
        """See `Slates.forget`."""
        key = self._client.key("slate", visitor)
        self._client.call(lambda redis: redis.delete(key))

    def _keeping(self, visitor: Visitor, slate: Slate) -> Callable[[Commands], Any]:
        rows = [(one.item_id, one.score, one.semantic_id) for one in slate.items]
        told = (slate.revision, slate.bundle_version, slate.scene, slate.device, slate.asked, slate.degraded)
        value = msgspec.msgpack.encode(_Slate(slate.at_seconds, rows, *told))
        key, ttl_ms = self._client.key("slate", visitor), int(self._max_age_seconds * 1000)
        return lambda redis: redis.set(key, value, px=ttl_ms)

    def _getting(self, visitor: Visitor) -> Callable[[Commands], Any]:
        key = self._client.key("slate", visitor)
        return lambda redis: redis.get(key)

    def _slate(self, value: bytes | None) -> Slate | None:
        if value is None:
            return None
        try:
            kept = _SLATE.decode(value)
        except msgspec.DecodeError:
            return None  # another version's; the next answer replaces it
        if self._clock.now() - kept.at_seconds > self._max_age_seconds:
            return None
        items = tuple(ScoredItem(item_id, score, codes) for item_id, score, codes in kept.items)
        return Slate(
            items,
            kept.revision,
            kept.bundle_version,
            kept.at_seconds,
            kept.scene,
            kept.device,
            kept.asked,
            kept.degraded,
        )


_LEASE: Final = """
local rate, burst, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(held[1]) or burst, tonumber(held[2]) or now
local most, least, jump = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if at - now > burst / rate + jump then at = now end
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local taken, wait = 0, 0
if tokens < least then wait = (least - tokens) / rate else taken = math.min(most, math.floor(tokens)) end
tokens = tokens - taken
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'at', string.format('%.17g', math.max(now, at)))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {taken, string.format('%.17g', wait)}
"""


class RedisRateLimits:
    """Implements `RateLimits` by one atomic script; a bucket that has filled up is forgotten."""

    def __init__(self, client: RedisClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def take(self, key: str, rate: Rate) -> float:
        """See `RateLimits.take`."""
        return self.lease(key, rate, 1).wait_seconds

    def lease(self, key: str, rate: Rate, most: int, least: int = 1) -> Grant:
        """See `RateLimits.lease`; a try that is repeated after a lost answer may cost its tokens twice."""
        name = f"{self._client.prefix}:limit:{{{tagged(key)}}}"
        arguments = (name, repr(rate.per_second), rate.burst, repr(self._clock.now()), most, least, JUMP_SECONDS)
        answer: tuple[int, bytes] = self._client.call(lambda redis: redis.eval(_LEASE, 1, *arguments))
        return Grant(int(answer[0]), float(answer[1]))
