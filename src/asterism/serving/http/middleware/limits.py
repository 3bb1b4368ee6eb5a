"""Rate limits of requests: one bucket for the instance, and a bucket a key and scope for all instances together."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from asterism.core.clock import Clock
from asterism.core.errors import StorageError
from asterism.serving.http.errors import RateLimitedError
from asterism.stores.rate_limits import Grant, LocalRateLimits, Rate, RateLimits

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 0.1  # of a rate: more an instance never holds of a key's tokens
_LEASE_LIFE_SECONDS: Final = 1.0  # what is not used by then is lost
_PAUSE_SECONDS: Final = 0.02  # before a bucket that was emptied is asked again, however fast it fills
_BLIND_SECONDS: Final = 1.0  # so long a store that failed is left alone


class TokenBucket:
    """A bucket of this process; for one thread."""

    def __init__(self, rate: Rate, monotonic: Callable[[], float]) -> None:
        self._per_second = rate.per_second
        self._burst = float(rate.burst)
        self._tokens = self._burst
        self._monotonic = monotonic
        self._at = monotonic()

    def take(self, cost: int) -> float:
        """Take so many tokens: 0 where there were as many, else the seconds until there will be, and none is taken."""
        now = self._monotonic()
        tokens = self._tokens + (now - self._at) * self._per_second
        if tokens > self._burst:
            tokens = self._burst
        self._at = now
        if tokens < cost:
            self._tokens = tokens
            return (cost - tokens) / self._per_second
        self._tokens = tokens - cost
        return 0.0


@dataclass(slots=True)
class _Lease:
    granted: int = 0
    left: int = 0
    at: float = 0.0
    shut_until: float = 0.0
    renewal: asyncio.Task[None] | None = None


class LeasedLimits:
    """Tokens of shared buckets, taken in advance a few at a time; for one event loop.

    In any span of time all instances together let through at most what the buckets give, and what was leased
    before: `LEASE_SECONDS` of the rate an instance. A store that cannot be reached leaves each instance with
    the whole rate.
    """

    def __init__(self, limits: RateLimits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._leases: dict[str, _Lease] = {}
        self._own = LocalRateLimits(_Monotonic(monotonic))
        self._blind_until = -math.inf

    def take(self, name: str, rate: Rate, cost: int) -> float | None:
        """As `TokenBucket.take`, or None where the lease is used up and `renewed` has to be awaited."""
        lease = self._leases.get(name)
        if lease is None:
            return None
        now = self._monotonic()
        if lease.left >= cost and now - lease.at < _LEASE_LIFE_SECONDS:
            lease.left -= cost
            return 0.0
        return lease.shut_until - now if now < lease.shut_until else None

    async def renewed(self, name: str, rate: Rate, cost: int) -> float:
        """As `TokenBucket.take`, over another lease; who asks at the same time waits for the same one."""
        lease = self._leases.setdefault(name, _Lease())
        while True:
            if lease.renewal is None:
                lease.renewal = asyncio.create_task(self._renew(name, lease, rate, cost))
            await asyncio.shield(lease.renewal)
            wait = self.take(name, rate, cost)
            if wait is not None:
                return wait

    async def _renew(self, name: str, lease: _Lease, rate: Rate, cost: int) -> None:
        now = self._monotonic()
        most = max(cost, min(_most(rate), _demand(lease, now)))
        try:
            grant = await self._grant(name, rate, most, cost)
        finally:
            lease.renewal = None
        lease.at = self._monotonic()
        lease.granted = lease.left = grant.tokens
        pause = _PAUSE_SECONDS if grant.tokens < most else 0.0
        lease.shut_until = lease.at + max(grant.wait_seconds, pause)

    async def _grant(self, name: str, rate: Rate, most: int, least: int) -> Grant:
        if self._monotonic() >= self._blind_until:
            try:
                return await asyncio.to_thread(self._limits.lease, name, rate, most, least)
            except StorageError as error:
                self._blind_until = self._monotonic() + _BLIND_SECONDS
                logger.warning("rate limits hold for each instance alone: %s", error)
        return self._own.lease(name, rate, most, least)


def _most(rate: Rate) -> int:
    return min(rate.burst, max(1, int(rate.per_second * LEASE_SECONDS)))


def _demand(lease: _Lease, now: float) -> int:
    """What was used since the last lease, as tokens of `LEASE_SECONDS`."""
    elapsed = max(now - lease.at, 1e-3)
    return math.ceil((lease.granted - lease.left) / elapsed * LEASE_SECONDS)


class _Monotonic(Clock):
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def now(self) -> float:
        return self._monotonic()


class RequestLimits:
    """What the guard asks: may this key do another request that needs this scope?"""

    def __init__(
        self,
        shared: LeasedLimits,
        per_second: Mapping[str, float],
        instance: Mapping[str, float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._rates = {scope: rate_of(number) for scope, number in per_second.items()}
        self._instance = {scope: TokenBucket(rate_of(number), monotonic) for scope, number in instance.items()}

    def pass_at_once(self, key_id: str, scope: str) -> bool:
        """Count one request, where nobody has to be asked for that, and say whether it may pass.

        Whoever may not is to ask `pass_one`, which says why; where only the instance refuses, that costs the key twice.
        """
        rate = self._rates.get(scope)
        if rate is not None and self._shared.take(f"{key_id}:{scope}", rate, 1) != 0.0:
            return False
        bucket = self._instance.get(scope)
        return bucket is None or not bucket.take(1)

    async def pass_one(self, key_id: str, scope: str, cost: int) -> None:
        """Count a request; raises `RateLimitedError`. What a key asks in vain costs the instance nothing."""
        rate = self._rates.get(scope)
        if rate is not None:
            name = f"{key_id}:{scope}"
            wait = self._shared.take(name, rate, cost)
            if wait is None:
                wait = await self._shared.renewed(name, rate, cost)
            if wait:
                raise _limited(f"this key may do {rate.per_second:g} requests a second here", wait)
        bucket = self._instance.get(scope)
        if bucket is not None:
            wait = bucket.take(cost)
            if wait:
                raise _limited("this instance takes no more requests just now", wait)


def rate_of(per_second: float) -> Rate:
    """A second's worth at once, and no less than a batch needs."""
    return Rate(per_second, max(BATCH_COST, math.ceil(per_second)))


BATCH_COST: Final = 100  # the most requests a batch may hold


def _limited(reason: str, wait_seconds: float) -> RateLimitedError:
    return RateLimitedError(
        f"{reason}; send it again in {max(1, math.ceil(wait_seconds))} s", retry_after_seconds=wait_seconds
    )
