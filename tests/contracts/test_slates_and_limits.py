"""Conformance suites of slates and of rate limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from asterism.core.clock import ManualClock
from asterism.core.errors import StorageError
from asterism.stores.rate_limits import LocalRateLimits, Rate, RateLimits
from asterism.stores.redis_client import RedisClient
from asterism.stores.redis_states import RedisRateLimits, RedisSlates
from asterism.stores.slates import LocalSlates, ScoredItem, Slate, Slates
from asterism.stores.user_state import Visitor

ADA = Visitor(user_id="ada")
ITEMS = (ScoredItem("é⭐\x00", -0.1, (1, 2, 3)), ScoredItem("b", float("-inf"), (255, 0, 7)))


def slate(at_seconds: float = 1000.0, items: tuple[ScoredItem, ...] = ITEMS) -> Slate:
    return Slate(items, 2**48 + 7, "v-1", at_seconds, "é home", "phone", 30, degraded=True)


Opener = Callable[[ManualClock], tuple[Slates, RateLimits]]


@pytest.fixture(params=["local", "redis", "cluster"])
def opener(request: pytest.FixtureRequest, prefix: str) -> Iterator[Opener]:
    """Opens both beside one clock."""
    if request.param == "local":
        yield lambda clock: (LocalSlates(clock), LocalRateLimits(clock))
        return
    url = request.getfixturevalue({"redis": "redis_url", "cluster": "cluster_url"}[request.param])
    client = RedisClient(f"{url}?prefix={prefix}", timeout_seconds=30.0)
    yield lambda clock: (RedisSlates(client, clock), RedisRateLimits(client, clock))
    client.close()


def test_a_slate_comes_out_as_it_was_kept_until_it_is_too_old(opener: Opener) -> None:
    clock = ManualClock(1000.0)
    slates, _ = opener(clock)
    assert slates.get(ADA) is None
    slates.keep(ADA, slate())
    other = Slate((), 0, "", 1000.0)
    slates.keep(Visitor(session_id="ada"), other)
    clock.advance(3600.0)
    assert (slates.get(ADA), slates.get(Visitor(session_id="ada"))) == (slate(), other)
    clock.advance(0.5)
    assert slates.get(ADA) is None
    slates.keep(ADA, slate(4600.0, ITEMS[1:]))
    assert slates.get(ADA) == slate(4600.0, ITEMS[1:])


def test_a_forgotten_slate_is_gone_and_only_that(opener: Opener) -> None:
    slates, _ = opener(ManualClock(1000.0))
    bob = Visitor("bob")
    for visitor in (ADA, bob):
        slates.keep(visitor, slate())
    slates.forget(ADA)
    slates.forget(Visitor("nobody"))
    assert (slates.get(ADA), slates.get(bob)) == (None, slate())


def test_many_slates_are_kept_and_read_as_each_alone(opener: Opener) -> None:
    slates, _ = opener(ManualClock(1000.0))
    bob, other = Visitor("bob"), Slate((), 0, "", 1000.0)
    assert slates.keep_many([(ADA, other), (bob, other), (ADA, slate())]) == [None] * 3
    assert slates.get_many([ADA, Visitor("nobody"), bob, ADA]) == [slate(), None, other, slate()]
    assert (slates.get(ADA), slates.get(bob)) == (slate(), other)
    assert (slates.keep_many([]), slates.get_many([])) == ([], [])


def test_a_slate_is_valid_for_its_state_and_bundle_while_it_is_young() -> None:
    one = Slate(ITEMS, 5, "v-1", 1000.0)
    assert one.is_valid(5, "v-1", 1059.9, 60.0)
    assert not one.is_valid(6, "v-1", 1000.0, 60.0), "the state changed"
    assert not one.is_valid(5, "v-2", 1000.0, 60.0), "another bundle is served"
    assert not one.is_valid(5, "v-1", 1060.0, 60.0), "it is old"
    assert not one.is_valid(5, "v-1", 900.0, 60.0), "the clock jumped back: it may be as old as anything"
    assert not one.is_valid(5, "v-1", 1000.0, 0.0), "no time at all turns it off"
    assert not Slate(ITEMS, 0, "v-1", 1000.0).is_valid(0, "v-1", 1000.0, 60.0), "0 is nobody's revision"


def test_of_too_many_slates_in_memory_the_oldest_leaves() -> None:
    slates = LocalSlates(ManualClock(1000.0), max_visitors=2)
    for name in ("a", "b", "a", "c"):
        slates.keep(Visitor(name), slate())
    assert [slates.get(Visitor(name)) is not None for name in "abc"] == [True, False, True]


def test_a_slate_in_redis_has_a_time_to_live(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    RedisSlates(client, ManualClock(), max_age_seconds=5000.0).keep(ADA, slate())
    key = client.key("slate", ADA)
    assert 4_900_000 < client.call(lambda redis: redis.pttl(key)) <= 5_000_000  # type: ignore[attr-defined]
    client.close()


def test_a_slate_that_an_older_asterism_kept_is_never_valid_but_still_there(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    slates, key = RedisSlates(client, ManualClock(1000.0)), client.key("slate", ADA)
    older = msgspec.msgpack.encode([1000.0, [["b", 0.5, [1, 2]]]])
    client.call(lambda redis: redis.set(key, older))
    found = slates.get(ADA)
    assert found == Slate((ScoredItem("b", 0.5, (1, 2)),), 0, "", 1000.0)
    assert found is not None
    assert not found.is_valid(0, "", 1000.0, 60.0)
    client.call(lambda redis: redis.set(key, b"junk"))
    assert slates.get(ADA) is None
    slates.keep(Visitor("bob"), slate())
    assert slates.get_many([ADA, Visitor("bob")]) == [None, slate()]
    client.call(lambda redis: redis.eval("redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')", 1, key))
    wrong, good = slates.get_many([ADA, Visitor("bob")])
    assert isinstance(wrong, StorageError)
    assert ("WRONGTYPE" in str(wrong), good) == (True, slate())
    assert slates.keep_many([(ADA, slate())]) == [None]
    assert slates.get(ADA) == slate()
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
    assert limits.lease("ada", rate, 7, least=3) == (0, 0.75)
    clock.advance(0.625)
    assert limits.lease("ada", rate, 7) == (2, 0.0), "half a token stays"
    assert limits.take("ada", rate) == 0.125


def test_a_clock_that_runs_a_little_backward_gives_nothing_away(opener: Opener) -> None:
    clock = ManualClock(1000.0)
    _, limits = opener(clock)
    rate = Rate(1.0, 1)
    assert limits.take("ada", rate) == 0.0
    clock.advance(-2.0)
    assert limits.take("ada", rate) == 1.0
    clock.advance(2.5)
    assert limits.take("ada", rate) == 0.5


def test_a_clock_that_is_set_back_shuts_nobody_out(opener: Opener) -> None:
    clock = ManualClock(10_000.0)
    _, limits = opener(clock)
    rate = Rate(1.0, 1)
    assert limits.take("ada", rate) == 0.0
    clock.advance(-3600.0)
    assert limits.take("ada", rate) == 1.0
    clock.advance(1.0)
    assert [limits.take("ada", rate) for _ in range(2)] == [0.0, 1.0]


def test_clients_at_once_get_no_token_twice(opener: Opener) -> None:
    _, limits = opener(ManualClock(1000.0))
    with ThreadPoolExecutor(6) as pool:
        waits = list(pool.map(lambda _: limits.take("ada", Rate(1.0, 25)), range(60)))
    assert waits.count(0.0) == 25


def test_a_rate_that_lets_nobody_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets nobody through"):
        Rate(0.0, 5)
