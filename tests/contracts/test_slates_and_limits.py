"""Conformance suites of slates and of rate limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from asterism.core.clock import ManualClock
from asterism.stores.rate_limits import LocalRateLimits, Rate, RateLimits
from asterism.stores.redis_client import RedisClient
from asterism.stores.redis_states import RedisRateLimits, RedisSlates
from asterism.stores.slates import LocalSlates, ScoredItem, Slates
from asterism.stores.user_state import Visitor

ADA = Visitor(user_id="ada")
SLATE = (ScoredItem("é⭐\x00", -0.1, (1, 2, 3)), ScoredItem("b", float("-inf"), (255, 0, 7)))

Opener = Callable[[ManualClock], tuple[Slates, RateLimits]]


@pytest.fixture(params=["local", "redis", "cluster"])
def opener(request: pytest.FixtureRequest, prefix: str) -> Iterator[Opener]:
    """Opens both beside one clock."""
    if request.param == "local":
        yield lambda clock: (LocalSlates(clock), LocalRateLimits(clock))
        return
    url = request.getfixturevalue({"redis": "redis_url", "cluster": "cluster_url"}[request.param])
    client = RedisClient(f"{url}?prefix={prefix}")
    yield lambda clock: (RedisSlates(client, clock), RedisRateLimits(client, clock))
    client.close()


def test_a_slate_comes_out_as_it_was_kept_until_it_is_too_old(opener: Opener) -> None:
    clock = ManualClock(1000.0)
    slates, _ = opener(clock)
    assert slates.get(ADA) == ()
    slates.keep(ADA, SLATE)
    slates.keep(Visitor(session_id="ada"), SLATE[:1])
    clock.advance(3600.0)
    assert (slates.get(ADA), slates.get(Visitor(session_id="ada"))) == (SLATE, SLATE[:1])
    clock.advance(0.5)
    assert slates.get(ADA) == ()
    slates.keep(ADA, SLATE[1:])
    assert slates.get(ADA) == SLATE[1:]


def test_of_too_many_slates_in_memory_the_oldest_leaves() -> None:
    slates = LocalSlates(ManualClock(), max_visitors=2)
    for name in ("a", "b", "a", "c"):
        slates.keep(Visitor(name), SLATE)
    assert [bool(slates.get(Visitor(name))) for name in "abc"] == [True, False, True]


def test_a_slate_in_redis_has_a_time_to_live(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}")
    RedisSlates(client, ManualClock(), max_age_seconds=50.0).keep(ADA, SLATE)
    key = client.key("slate", ADA)
    assert 49_000 < client.call(lambda redis: redis.pttl(key)) <= 50_000  # type: ignore[attr-defined]
    client.close()


def test_a_bucket_gives_its_burst_then_its_rate(opener: Opener) -> None:
    clock = ManualClock(1000.0)
    _, limits = opener(clock)
    rate = Rate(per_second=2.0, burst=3)
    assert [limits.take("ada", rate) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert limits.take("{bob}", rate) == 0.0, "keys have buckets of their own"
    clock.advance(0.25)
    assert limits.take("ada", rate) == 0.25
    clock.advance(0.25)
    assert [limits.take("ada", rate) for _ in range(2)] == [0.0, 0.5]
    clock.advance(100.0)
    assert [limits.take("ada", rate) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_lease_is_what_there_is_up_to_what_was_asked(opener: Opener) -> None:
    clock = ManualClock(1000.0)
    _, limits = opener(clock)
    rate = Rate(per_second=4.0, burst=10)
    assert limits.lease("ada", rate, 7) == (7, 0.0)
    assert limits.lease("ada", rate, 7) == (3, 0.0)
    assert limits.lease("ada", rate, 7) == (0, 0.25)
    clock.advance(0.625)
    assert limits.lease("ada", rate, 7) == (2, 0.0), "half a token stays"
    assert limits.take("ada", rate) == 0.125


def test_a_clock_that_runs_backward_gives_nothing_away(opener: Opener) -> None:
    clock = ManualClock(1000.0)
    _, limits = opener(clock)
    rate = Rate(1.0, 1)
    assert limits.take("ada", rate) == 0.0
    clock.advance(-10.0)
    assert limits.take("ada", rate) == 1.0
    clock.advance(10.5)
    assert limits.take("ada", rate) == 0.5


def test_clients_at_once_get_no_token_twice(opener: Opener) -> None:
    _, limits = opener(ManualClock(1000.0))
    with ThreadPoolExecutor(6) as pool:
        waits = list(pool.map(lambda _: limits.take("ada", Rate(1.0, 25)), range(60)))
    assert waits.count(0.0) == 25


def test_a_rate_that_lets_nobody_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets nobody through"):
        Rate(0.0, 5)
