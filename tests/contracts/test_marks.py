"""One suite for what gateways remember together: event ids of a day, and how often each item was wanted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from asterism.core.clock import ManualClock
from asterism.stores.event_ids import REMEMBERED_SECONDS
from asterism.stores.opening import Hot, open_hot
from asterism.stores.user_state import Visitor

ADA, SESSION = Visitor("ada"), Visitor(session_id="ada")
ODD = ["", "{}", "é⭐", "\x00", "a\r\nDEL x", "'; --", "x" * 5_000, "1"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000_000.25)


@pytest.fixture(params=["memory", "redis", "cluster"])
def hot(request: pytest.FixtureRequest, clock: ManualClock, prefix: str) -> Iterator[Hot]:
    if request.param == "memory":
        yield open_hot("memory", clock)
        return
    url = request.getfixturevalue({"redis": "redis_url", "cluster": "cluster_url"}[request.param])
    hot = open_hot(f"{url}?prefix={prefix}", clock, 30.0)
    yield hot
    hot.close()


def test_an_id_is_known_for_a_day(hot: Hot, clock: ManualClock) -> None:
    assert hot.event_ids.known(ADA, ["e1", "e2"]) == [False, False]
    hot.event_ids.remember(ADA, ["e1"])
    clock.advance(REMEMBERED_SECONDS - 1)
    hot.event_ids.remember(ADA, ["e2"])
    assert hot.event_ids.known(ADA, ["e2", "e1", "e3"]) == [True, True, False]
    clock.advance(2)
    assert hot.event_ids.known(ADA, ["e1", "e2"]) == [False, True]


def test_visitors_have_ids_of_their_own_and_odd_ones(hot: Hot) -> None:
    hot.event_ids.remember(ADA, ODD)
    assert hot.event_ids.known(ADA, ODD) == [True] * len(ODD)
    assert hot.event_ids.known(SESSION, ODD) == [False] * len(ODD)
    hot.event_ids.forget(ADA)
    assert hot.event_ids.known(ADA, ODD) == [False] * len(ODD)


def test_items_are_counted_by_all_at_once(hot: Hot) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: hot.counts.add(["a", "b", "a", *ODD]), range(20)))
    hot.counts.add([])
    assert hot.counts.read() == {"a": 40, "b": 20, **dict.fromkeys(ODD, 20)}
