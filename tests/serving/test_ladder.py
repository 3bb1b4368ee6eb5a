"""Each part is switched off while users are served: an answer always comes, says from where, keeps what is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.config.loading import parse_reranking_config
from asterism.core.errors import OverloadedError
from asterism.core.records import Action
from asterism.serving.recommendation import Source
from asterism.stores.exposure_log import Exposure, Shown
from asterism.stores.user_state import Visitor
from serving.one_process import Shop, ids, in_loop, opened
from serving.small_market import ITEM_IDS, SOLD_OUT, category_of


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path) as found:
        yield found


def check_rules(shop: Shop, found: list[str], user_id: str = "u1") -> None:
    """What the visitor has seen or declined and what is sold out is never shown, and nothing twice."""
    state = shop.hot.states.last_known(Visitor(user_id))
    assert not (state.left_out | {SOLD_OUT}) & set(found)
    assert len(found) == len(set(found)) == 10


def test_all_rungs_from_the_top_to_the_bottom(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        said = await shop.ask()
        shop.engine.is_dead = True
        sources = [(await shop.ask()).source]
        shop.tell("u1", ids(said)[0])
        sources.append((await shop.ask()).source)
        shop.slates.is_off = True
        segment = await shop.ask()
        sources.append(segment.source)
        sources.append((await shop.ask("a stranger")).source)
        assert sources == [Source.MODEL, Source.STALE, Source.POPULAR_SEGMENT, Source.POPULAR]
        check_rules(shop, ids(segment))
        assert {category_of(one) for one in ids(segment)[:8]} == {"mugs"}
        assert shop.shown[-1].source == "popular"

    in_loop(story, shop)


def test_an_engine_that_is_cold_or_killed_leaves_the_segment(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.is_dead = True
        answer = await shop.ask()
        assert (answer.source, answer.cached, answer.degraded) == (Source.POPULAR_SEGMENT, False, False)
        assert answer.bundle_version == shop.engine.bundle_version
        check_rules(shop, ids(answer))
        assert (await shop.ask(visitor=Visitor(None, "anonymous"))).source is Source.POPULAR
        assert (await shop.ask(None)).source is Source.POPULAR

    in_loop(story, shop)


def test_a_slow_engine_is_not_waited_for_and_its_answer_is_kept(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.engine.delay_seconds = 600.0
        started = time.monotonic()
        first = await shop.ask()
        assert first.source is Source.POPULAR_SEGMENT
        assert 0.9 < time.monotonic() - started < 60, "its patience is one second"
        shop.engine.delay_seconds = 0.0
        await shop.slate_kept("u1")
        second = await shop.ask()
        assert (second.source, second.cached) == (Source.MODEL, True), "it came too late for one, in time for the next"
        assert len(shop.engine.asked) == 1

    in_loop(story, shop)


def test_without_the_states_store_what_is_known_of_a_visitor_still_holds(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        said = await shop.ask()
        shop.tell("u1", ids(said)[0], Action.DISLIKE)
        shop.states.is_off = True
        answer = await shop.ask()
        assert (answer.source, answer.cached) == (Source.MODEL, False), "asked anew, as the state may have changed"
        check_rules(shop, ids(answer))
        shop.engine.is_dead = True
        answer = await shop.ask()
        assert answer.source is Source.STALE
        check_rules(shop, ids(answer))
        stranger = await shop.ask("a stranger")
        assert stranger.source is Source.POPULAR
        shop.states.is_off = shop.engine.is_dead = False
        assert (await shop.ask()).source is Source.MODEL
        assert (await shop.ask()).cached

    in_loop(story, shop)


def test_without_states_and_slates_everybody_gets_popular_items(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.states.is_off = shop.slates.is_off = True
        shop.states.works_still = frozenset()
        answer = await shop.ask()
        assert answer.source is Source.POPULAR
        assert SOLD_OUT not in ids(answer)
        assert shop.engine.asked == []

    in_loop(story, shop)


def test_slates_that_cannot_be_kept_or_read_cost_the_engine_a_question_each(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        shop.slates.is_off = True
        found = [await shop.ask(count=count) for count in (10, 11, 12)]
        assert {(one.source, one.cached) for one in found} == {(Source.MODEL, False)}
        assert len(shop.engine.asked) == 3

    in_loop(story, shop)


def test_without_the_catalogue_what_was_unavailable_stays_out(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        first = ids(await shop.ask())
        shop.real_catalogue.set_hidden(first[0], True)
        before = await shop.ask()
        shop.catalogue.is_off = True
        answers = [await shop.ask(), await shop.ask("u2"), await shop.ask("a stranger")]
        assert [one.source for one in answers] == [Source.MODEL, Source.MODEL, Source.POPULAR]
        assert answers[0].items == before.items
        assert not any({first[0], SOLD_OUT} & set(ids(one)) for one in answers)

    in_loop(story, shop)


def test_without_vectors_dislikes_colour_nothing_and_nothing_is_explained(tmp_path: Path) -> None:
    diverse = parse_reranking_config({"diversity": {"method": "mmr"}})

    async def story(shop: Shop) -> None:
        shop.tell("u1", "mugs-00", Action.DISLIKE)
        shop.vectors.is_off = True
        answer = await shop.ask(explain=True)
        assert (answer.source, len(answer.items)) == (Source.MODEL, 10)
        assert {one.because for one in answer.items} == {None}
        assert "mugs-00" not in ids(answer)
        shop.vectors.is_off = False
        shop.clock.advance(61.0)
        assert any(one.because is not None for one in (await shop.ask(explain=True)).items)

    with opened(tmp_path, reranking=diverse) as shop:
        in_loop(story, shop)


def test_a_full_exposure_log_stops_nobody(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def __init__(self) -> None:
            self.taken: list[Exposure] = []
            self.is_full = True

        def record(self, exposure: Exposure) -> None:
            if self.is_full:
                raise OverloadedError("10000 writes wait for the disk already")
            self.taken.append(exposure)

        def record_again(self, shown: Shown, attribution_id: str, timestamp: int) -> None:
            self.record(replace(shown.exposure, attribution_id=attribution_id, timestamp=timestamp))

    async def story(shop: Shop) -> None:
        log = Full()
        shop.recommender._exposures = log  # type: ignore[assignment]
        assert {(await shop.ask()).source for _ in range(50)} == {Source.MODEL}
        log.is_full = False
        last = await shop.ask()
        assert [one.attribution_id for one in log.taken] == [last.attribution_id]

    in_loop(story, shop)
    told = [one for one in caplog.messages if "exposure" in one]
    assert len(told) == 2, "that it is full, and that it is back; not once a request"


def test_everything_off_at_once_is_still_an_answer(shop: Shop) -> None:
    async def story(shop: Shop) -> None:
        await shop.ask()
        shop.engine.is_dead = True
        for part in (shop.states, shop.slates, shop.catalogue, shop.vectors, shop.exposures):
            part.is_off = True
        answer = await shop.ask()
        assert answer.source is Source.POPULAR_SEGMENT, "by what was known of the visitor"
        check_rules(shop, ids(answer))
        more = await shop.ask(count=100, explain=True)
        assert set(ids(more)) == set(ITEM_IDS) - {SOLD_OUT} - shop.hot.states.last_known(Visitor("u1")).seen

    in_loop(story, shop)


def test_a_bug_in_the_engine_is_told_and_the_answer_comes_from_below(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(shop: Shop) -> None:
        def fail(_: object) -> None:
            raise ZeroDivisionError("a bug")

        shop.engine._engine.recommend = fail  # type: ignore[method-assign,assignment]
        assert (await shop.ask()).source is Source.POPULAR_SEGMENT

    in_loop(story, shop)
    assert any("a bug" in one.message and one.levelname == "ERROR" for one in caplog.records)
