"""What gateways remember together in Redis: event ids of the last day, and how often each item was wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from asterism.core.clock import Clock
from asterism.stores.event_ids import REMEMBERED_SECONDS
from asterism.stores.redis_client import RedisClient
from asterism.stores.user_state import Visitor

_KNOWN: Final = """
local found = {}
for place = 2, #ARGV do
  local at = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[place]) or '-1')
  found[place - 1] = at > tonumber(ARGV[1]) and 1 or 0
end
return found
"""
_REMEMBER: Final = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
for place = 4, #ARGV do redis.call('ZADD', KEYS[1], ARGV[1], ARGV[place]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
_COUNT: Final = """
for place = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[place], ARGV[place + 1]) end
return 1
"""
_AT_ONCE: Final = 1_000


class RedisEventIds:
    """Implements `EventIds`: a sorted set a visitor, which leaves a day after their last event."""

    def __init__(self, client: RedisClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def known(self, visitor: Visitor, event_ids: Sequence[str]) -> list[bool]:
        """See `EventIds.known`."""
        key, oldest = self._client.key("events", visitor), repr(self._clock.now() - REMEMBERED_SECONDS)
        found: list[int] = self._client.call(lambda redis: redis.eval(_KNOWN, 1, key, oldest, *event_ids))
        return [one == 1 for one in found]

    def remember(self, visitor: Visitor, event_ids: Sequence[str]) -> None:
        """See `EventIds.remember`."""
        now = self._clock.now()
        times = (repr(now), repr(now - REMEMBERED_SECONDS), int(REMEMBERED_SECONDS * 1000))
        key = self._client.key("events", visitor)
        self._client.call(lambda redis: redis.eval(_REMEMBER, 1, key, *times, *event_ids))

    def forget(self, visitor: Visitor) -> None:
        """See `EventIds.forget`."""
        key = self._client.key("events", visitor)
        self._client.call(lambda redis: redis.delete(key))


class RedisItemCounts:
    """Implements `ItemCounts` in one hash; a count that is repeated after a lost answer counts twice."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._key = f"{client.prefix}:wanted"

    def add(self, item_ids: Iterable[str]) -> None:
        """See `ItemCounts.add`."""
        pairs = [word for pair in Counter(item_ids).items() for word in pair]
        for start in range(0, len(pairs), 2 * _AT_ONCE):
            some = pairs[start : start + 2 * _AT_ONCE]
            self._client.call(lambda redis, some=some: redis.eval(_COUNT, 1, self._key, *some))  # type: ignore[misc]

    def read(self) -> dict[str, int]:
        """See `ItemCounts.read`."""
        counts: dict[bytes, bytes] = self._client.call(lambda redis: redis.hgetall(self._key))
        return {name.decode(): int(count) for name, count in counts.items()}
