"""A caller's budget bounds how long the model may take; what is kept for others is made all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asterism.serving.recommendation import RecommendRequest, Source
from asterism.stores.user_state import Visitor
from serving.one_process import Shop, in_loop, opened


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path, deadline_seconds=30.0) as found:
        yield found


def test_the_smaller_of_both_holds_and_a_fifth_is_left_for_the_way_back() -> None:
    patient = RecommendRequest(Visitor("u1"))
    assert patient.patience_seconds(0.2) == 0.2
    now = time.monotonic()
    hurried = RecommendRequest(Visitor("u1"), deadline=now + 10.0)
    assert hurried.patience_seconds(0.2) == 0.2
    left = hurried.patience_seconds(60.0)
    assert 0.8 * (now + 10.0 - time.monotonic()) <= left <= 8.0
    assert RecommendRequest(Visitor("u1"), deadline=now - 1.0).patience_seconds(0.2) == 0.0


def test_who_has_little_time_gets_the_next_rung_and_the_slate_is_there_for_the_next_request(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 600.0
        began = time.monotonic()
        answer = await shop.ask(deadline=began + 0.1)
        assert answer.source is not Source.MODEL
        assert time.monotonic() - began < 20, "of the thirty seconds that others would wait"
        shop.engine.delay_seconds = 0.0
        await shop.slate_kept("u1")
        later = await shop.ask()
        assert (later.source, later.cached, len(shop.engine.asked)) == (Source.MODEL, True, 1)

    in_loop(story, shop)


def test_what_nobody_else_will_want_is_asked_for_with_the_callers_own_deadline(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        now = time.monotonic()
        await shop.ask(deadline=now + 5.0, exclude=frozenset({"x"}))
        await shop.ask(deadline=now + 5.0)
        own, kept = (asked.deadline for asked in shop.engine.asked)
        assert own is not None
        assert kept is not None
        assert own <= now + 5.0 < now + 25.0 < kept

    in_loop(story, shop)
