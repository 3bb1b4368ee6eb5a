"""A slate answers again while state, scene, bundle and time allow it, and never where something else was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asterism.config.loading import parse_reranking_config
from asterism.core.records import Action
from asterism.data.item_attributes import Predicate
from asterism.serving.ports import ScoredItem
from asterism.serving.recommendation import Boost, Source
from asterism.stores.slates import Slate
from asterism.stores.user_state import Visitor
from serving.one_process import NOW, Shop, ids, in_loop, opened
from serving.small_market import ITEM_IDS, SOLD_OUT, category_of

U1 = Visitor("u1")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path) as found:
        yield found


def test_the_same_request_is_answered_again_without_the_engine(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        first, *again = [await shop.ask() for _ in range(4)]
        assert (first.source, first.cached) == (Source.MODEL, False)
        for one in again:
            assert (one.source, one.cached, one.bundle_version) == (Source.MODEL, True, first.bundle_version)
            assert (one.items, one.cursor, one.degraded) == (first.items, first.cursor, first.degraded)
        assert len({one.attribution_id for one in (first, *again)}) == 4
        assert len(shop.engine.asked) == 1
        assert [one.attribution_id for one in shop.shown] == [first.attribution_id, *(o.attribution_id for o in again)]
        assert {one.item_ids for one in shop.shown} == {tuple(ids(first))}

    in_loop(story, shop)


@pytest.mark.parametrize("counts", [(10, 30, 1, 17), (50, 10, 50), (30, 31)])
def test_a_slate_serves_every_count_that_it_has_items_for(shop: Shop, counts: tuple[int, ...]) -> None:
    async def story(shop: Shop) -> None:
        fresh_most = 0
        for count in counts:
            answer = await shop.ask(count=count)
            assert answer.cached == (count <= fresh_most), count
            fresh_most = max(fresh_most, 30, count)
            whole = await shop.ask(count=count, exclude=frozenset({"no such item"}))
            assert ids(answer) == ids(whole), "what the engine says, asked anew"

    in_loop(story, shop)


def test_an_exhausted_catalogue_is_not_asked_again(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        found = [await shop.ask(count=100) for _ in range(2)]
        assert (len(found[0].items), found[1].cached) == (len(ITEM_IDS) - 5 - 1, True)
        assert (await shop.ask(count=90)).cached

    in_loop(story, shop)


@pytest.mark.parametrize("action", [Action.CLICK, Action.DISLIKE])
def test_feedback_makes_the_slate_stale(shop: Shop, action: Action) -> None:
    async def story(shop: Shop) -> None:
        first = ids(await shop.ask())
        shop.tell("u1", first[0], action)
        answer = await shop.ask()
        assert (answer.source, answer.cached, first[0] in ids(answer)) == (Source.MODEL, False, False)
        shop.tell("u1", first[1], action)
        shop.engine.is_dead = True
        answer = await shop.ask()
        assert (answer.source, answer.cached) == (Source.STALE, True)
        assert not {first[0], first[1]} & set(ids(answer))
        shop.engine.is_dead = False
        assert (await shop.ask()).source is Source.MODEL

    in_loop(story, shop)


def test_an_impression_changes_nothing(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        first = await shop.ask()
        shop.tell("u1", first.items[0].item_id, Action.IMPRESSION)
        assert (await shop.ask()).cached

    in_loop(story, shop)


def test_another_scene_device_visitor_or_bundle_has_no_part_in_it(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        await shop.ask(scene="home")
        for more in ({"scene": "cart"}, {"scene": "cart", "device": "phone"}, {"visitor": Visitor("u5")}):
            assert not (await shop.ask(**more)).cached, more
        asked = len(shop.engine.asked)
        session = await shop.ask(visitor=Visitor(None, "u1"), scene="home")
        assert (session.source, session.cached, len(shop.engine.asked)) == (Source.POPULAR, False, asked)
        assert (await shop.ask(scene="home")).cached, "its page is still there"
        shop.engine.bundle_version = "another"
        answer = await shop.ask(scene="home")
        assert (answer.cached, answer.bundle_version) == (False, "another")

    in_loop(story, shop)


def test_it_grows_old_and_a_clock_that_jumps_makes_it_invalid(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        await shop.ask()
        shop.clock.advance(44.9)
        assert (await shop.ask()).cached
        shop.clock.advance(15.2)
        assert not (await shop.ask()).cached
        shop.clock.advance(-100.0)
        assert not (await shop.ask()).cached
        assert (await shop.ask()).cached

    in_loop(story, shop)


def test_what_was_made_in_one_moment_does_not_end_in_one(shop: Shop) -> None:
    """Slates of two hundred visitors end over a quarter of their time, some thirteen a second."""

    async def story(shop: Shop) -> None:
        left = [f"visitor-{number}" for number in range(200)]
        for one in left:
            shop.tell(one, ITEM_IDS[0], Action.CLICK)
            assert not (await shop.ask(one)).cached
        ended = []
        for seconds in [45.0, *[1.0] * 15]:
            shop.clock.advance(seconds)
            kept = [one for one in left if (await shop.ask(one)).cached]
            ended.append(len(left) - len(kept))
            left = kept
        assert left == []
        assert ended[0] == 0
        assert max(ended) < 30, ended

    in_loop(story, shop)


def test_no_seconds_ask_the_engine_every_time(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        assert [(await shop.ask()).cached for _ in range(3)] == [False] * 3

    with opened(tmp_path, slate_seconds=0.0) as shop:
        in_loop(story, shop)


@pytest.mark.parametrize(
    "more",
    [
        {"exclude": frozenset({"lamps-00"})},
        {"wanted": Predicate(frozenset({"books"}))},
        {"wanted": Predicate(highest_price=20.0)},
        {"allowed": frozenset({"mugs-03", "books-01"})},
        {"boosts": (Boost(50.0, items=frozenset({"mugs-12"})),)},
    ],
)
def test_a_slate_is_no_answer_to_another_question_and_the_answer_to_it_no_slate(
    shop: Shop, more: dict[str, Any]
) -> None:
    async def story(shop: Shop) -> None:
        plain = await shop.ask()
        other = await shop.ask(**more)
        assert not other.cached
        assert len(shop.engine.asked) == 2
        again = await shop.ask()
        assert (again.cached, again.items) == (True, plain.items)
        shop.clock.advance(61.0)
        alone = await shop.ask(**more)
        assert ids(alone) == ids(other), "whatever was kept, the answer is the same"
        for one in more.get("exclude", ()):
            assert one not in ids(other)
        if "allowed" in more:
            assert set(ids(other)) <= more["allowed"]

    in_loop(story, shop)


def test_a_scroll_leads_through_everything_once_beside_a_valid_slate(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        seen: list[str] = []
        answer = await shop.ask(count=8)
        while True:
            seen += ids(answer)
            assert (await shop.ask(count=8)).cached, "the first page stands"
            if answer.cursor is None:
                break
            answer = await shop.ask(count=8, cursor=answer.cursor)
            assert not answer.cached
        assert len(seen) == len(set(seen)) == len(ITEM_IDS) - 5 - 1

    in_loop(story, shop)


def test_what_becomes_unavailable_is_left_out_at_once_and_comes_back(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        first = ids(await shop.ask())
        shop.real_catalogue.set_hidden(first[2], True)
        hidden = await shop.ask()
        assert (hidden.source, hidden.cached) == (Source.MODEL, True), "29 of its items are still enough"
        assert ids(hidden)[:9] == [one for one in first if one != first[2]]
        assert len(ids(hidden)) == 10
        few = await shop.ask(count=30)
        assert not few.cached, "and not enough for 30"
        assert len(ids(few)) == 30
        shop.real_catalogue.set_hidden(first[2], False)
        assert ids(await shop.ask()) == first

    in_loop(story, shop)


def test_a_slate_that_the_nearline_loop_kept_is_as_good(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.tell("somebody", "lamps-03")
        state = shop.hot.states.get(Visitor("somebody"))
        items = tuple(ScoredItem(one, 1.0, (0, 0, 0)) for one in ("tents-01", "lamps-03", SOLD_OUT, "tents-02"))
        kept = Slate(items, state.revision, shop.engine.bundle_version, NOW)
        shop.hot.slates.keep(Visitor("somebody"), kept)
        answer = await shop.ask("somebody", 2)
        assert (answer.source, answer.cached, ids(answer)) == (Source.MODEL, True, ["tents-01", "tents-02"])
        assert shop.engine.asked == []
        assert not (await shop.ask("somebody", 3)).cached, "two that may be shown are not three"

    in_loop(story, shop)


def test_explanations_come_with_a_valid_slate_too(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        plain = await shop.ask()
        told = await shop.ask(explain=True)
        assert (told.cached, ids(told)) == (True, ids(plain))
        assert all(one.because is not None and one.weighed is not None for one in told.items)
        assert {one.because for one in (await shop.ask()).items} == {None}

    in_loop(story, shop)


def test_what_is_hidden_or_unavailable_explains_nothing(shop: Shop) -> None:
    async def reasons(user_id: str) -> set[str]:
        answer = await shop.ask(user_id, explain=True)
        assert answer.items
        return {one.because.item_id for one in answer.items if one.because is not None}

    async def story(shop: Shop) -> None:
        left = await reasons("u1")
        assert left
        while left:
            hidden = left.pop()
            shop.real_catalogue.set_hidden(hidden, True)
            left = await reasons("u1")
            assert hidden not in left, "another item of the history explains in its place"
        shop.tell("somebody", SOLD_OUT)
        assert await reasons("somebody") == set()
        shop.tell("somebody", "lamps-03")
        assert await reasons("somebody") == {"lamps-03"}

    in_loop(story, shop)


def test_exploration_draws_every_time_over_one_slate(tmp_path: Path) -> None:
    explored = parse_reranking_config({"exploration": {"share": 0.5}})

    async def story(shop: Shop) -> None:
        found = [await shop.ask() for _ in range(8)]
        assert [one.cached for one in found] == [False] + [True] * 7
        assert len({tuple(ids(one)) for one in found}) > 1
        assert len(shop.engine.asked) == 1

    with opened(tmp_path, reranking=explored) as shop:
        in_loop(story, shop)


def test_rules_and_caps_hold_in_what_is_given_again(tmp_path: Path) -> None:
    ruled = parse_reranking_config(
        {
            "rules": [{"do": "pin", "items": ["tents-02"], "slot": 2}, {"do": "hide", "items": ["mugs-00"]}],
            "caps": [{"category": "mugs", "most": 3}],
        }
    )

    async def story(shop: Shop) -> None:
        found = [await shop.ask() for _ in range(3)]
        assert [one.cached for one in found] == [False, True, True]
        for one in found:
            assert ids(one)[1] == "tents-02"
            assert "mugs-00" not in ids(one)
            assert sum(category_of(item) == "mugs" for item in ids(one)) <= 3

    with opened(tmp_path, reranking=ruled) as shop:
        in_loop(story, shop)


def test_a_burst_of_one_visitor_costs_one_question(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 0.2
        burst = await asyncio.gather(*(shop.ask() for _ in range(20)), *(shop.ask(count=5) for _ in range(5)))
        assert len(shop.engine.asked) == 1
        assert {one.source for one in burst} == {Source.MODEL}
        assert {tuple(ids(one)) for one in burst[:20]} == {tuple(ids(burst[0]))}

    in_loop(story, shop)


@pytest.mark.parametrize(
    "other",
    [
        {"scene": "cart"}, {"device": "phone"}, {"count": 60}, {"visitor": Visitor("u5")},
        {"exclude": frozenset({"x"})}, {"boosts": (Boost(2.0, items=frozenset({"mugs-01"})),)},
    ],
)  # fmt: skip
def test_who_asks_something_else_at_the_same_time_asks_for_themselves(shop: Shop, other: dict[str, Any]) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 0.2
        await asyncio.gather(shop.ask(), shop.ask(**other))
        assert len(shop.engine.asked) == 2

    in_loop(story, shop)


def test_after_feedback_a_question_under_way_is_not_joined(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 0.2
        first = asyncio.ensure_future(shop.ask())
        await asyncio.sleep(0.05)
        shop.tell("u1", "tents-00")
        second = await shop.ask()
        await first
        assert len(shop.engine.asked) == 2
        assert any(category_of(one) == "tents" for one in ids(second))
        assert ids(await shop.ask()) == ids(second), "the older answer is not taken for the newer state's"

    in_loop(story, shop)


def test_a_question_is_joined_only_while_there_is_time_for_its_answer(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 600.0
        first = asyncio.ensure_future(shop.ask())
        await asyncio.sleep(0.6)  # of 1.0
        second = asyncio.ensure_future(shop.ask())
        await asyncio.wait({second}, timeout=0.1)
        shop.engine.delay_seconds = 0.0
        await asyncio.gather(first, second)
        assert len(shop.engine.asked) == 2

    in_loop(story, shop)


def test_a_visitor_who_leaves_takes_nobody_else_along(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 0.2
        leaving, staying = (asyncio.ensure_future(shop.ask()) for _ in range(2))
        await asyncio.sleep(0.05)
        leaving.cancel()
        assert (await staying).source is Source.MODEL
        assert len(shop.engine.asked) == 1

    in_loop(story, shop)


def test_a_forgotten_visitor_is_served_nothing_that_was_theirs(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.tell("ada", "tents-00")
        theirs = await shop.ask("ada")
        assert (await shop.ask("ada")).cached
        shop.hot.states.forget(Visitor("ada"))
        shop.hot.slates.forget(Visitor("ada"))
        shop.recommender.forget(["ada"])
        stranger = await shop.ask("ada")
        assert (stranger.source, stranger.cached) == (Source.POPULAR, False)
        shop.tell("ada", "tents-00")
        again = await shop.ask("ada")
        assert (again.cached, ids(again)) == (False, ids(theirs))

    in_loop(story, shop)


def test_a_slate_that_is_written_while_its_visitor_is_forgotten_is_taken_back(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.tell("ada", "tents-00")
        slates: Any = shop.hot.slates
        keep = slates._part.keep

        def forgotten_meanwhile(visitor: Visitor, slate: Slate) -> None:
            shop.hot.states.forget(visitor)  # as another process does, whose word on the slate came before
            keep(visitor, slate)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slates._part, "keep", forgotten_meanwhile)
            await shop.ask("ada")
        assert not shop.hot.states.known(Visitor("ada")), "it was written"
        assert shop.hot.slates.get(Visitor("ada")) is None

    in_loop(story, shop)


def test_an_answer_that_comes_after_a_visitor_was_forgotten_is_not_kept(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.tell("ada", "tents-00")
        shop.engine.delay_seconds = 0.2
        asking = asyncio.ensure_future(shop.ask("ada"))
        await asyncio.sleep(0.05)
        shop.hot.states.forget(Visitor("ada"))
        shop.hot.slates.forget(Visitor("ada"))
        await asking
        assert shop.hot.slates.get(Visitor("ada")) is None

    in_loop(story, shop)
