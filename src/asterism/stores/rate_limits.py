"""Rate limits: a bucket of tokens a key, which fills at a steady rate."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from asterism.core.clock import Clock


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls a second in the long run, and so many at once after a rest."""

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        if not (self.per_second > 0 and self.burst >= 1):
            raise ValueError(f"a rate of {self.per_second} a second with a burst of {self.burst} lets nobody through")


class Grant(NamedTuple):
    """So many tokens taken, or none and the seconds until there will be one."""

    tokens: int
    wait_seconds: float


class RateLimits(Protocol):
    """Buckets by key; every method may be called from any thread."""

    def take(self, key: str, rate: Rate) -> float:
        """Take one token: 0 where there was one, else the seconds until there will be, and none is taken."""
        ...

    def lease(self, key: str, rate: Rate, most: int) -> Grant:
        """Take as many tokens as there are, `most` at the most."""
        ...


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_seconds: float


class LocalRateLimits:
    """Implements `RateLimits` in the memory of one process; of too many keys the longest unused leaves first."""

    def __init__(self, clock: Clock, max_keys: int = 100_000) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, rate: Rate) -> float:
        """See `RateLimits.take`."""
        return self.lease(key, rate, 1).wait_seconds

    def lease(self, key: str, rate: Rate, most: int) -> Grant:
        """See `RateLimits.lease`."""
        now = self._clock.now()
        with self._lock:
            bucket = self._buckets.setdefault(key, _Bucket(rate.burst, now))
            self._buckets.move_to_end(key)
            while len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
            elapsed = max(0.0, now - bucket.at_seconds)
            bucket.tokens = min(rate.burst, bucket.tokens + elapsed * rate.per_second)
            bucket.at_seconds = max(now, bucket.at_seconds)
            if bucket.tokens < 1.0:
                return Grant(0, (1.0 - bucket.tokens) / rate.per_second)
            taken = min(most, int(bucket.tokens))
            bucket.tokens -= taken
            return Grant(taken, 0.0)
