"""Popularity, interests and segments, on numbers worked out by hand."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.records import Action
from asterism.serving.hot_state import HotState, PastEvent
from asterism.serving.interests import Categories
from asterism.serving.popularity import Popularity
from asterism.stores.event_log import Event
from asterism.stores.user_state import RecentEvent, Visitor

CATEGORIES = {"a": ("all", "red"), "b": ("all", "red"), "c": ("all", "blue"), "d": ("all",)}


def recent(*steps: tuple[str, Action]) -> list[RecentEvent]:
    return [RecentEvent(place, item, action) for place, (item, action) in enumerate(steps)]


def test_interest_halves_every_twenty_events_and_counts_what_was_done() -> None:
    steps = [("c", Action.PURCHASE)] + [("d", Action.CLICK)] * 19 + [("a", Action.CLICK)]
    shares = Categories(CATEGORIES).interests(recent(*steps))
    assert shares == {"blue": pytest.approx(1.5 / 2.5), "red": pytest.approx(1 / 2.5)}
    assert list(shares) == ["blue", "red"]


def test_the_rarer_category_is_the_segment_at_equal_interest() -> None:
    categories = Categories(CATEGORIES)
    # red 0.5 * log(4/2) = 0.35, blue 0.5 * log(4/1) = 0.69
    assert categories.segment([RecentEvent(1, "a", Action.CLICK), RecentEvent(1, "c", Action.CLICK)]) == "blue"
    assert categories.segment(recent(("d", Action.CLICK))) is None
    assert categories.segment([]) is None


def test_popularity_is_ranked_by_count_then_id() -> None:
    popularity = Popularity(CATEGORIES, ["c", "b", "c", "gone"])
    assert list(popularity.ranked()) == ["c", "b", "a", "d"]
    assert (list(popularity.ranked("red")), list(popularity.ranked("green"))) == (["b", "a"], [])
    popularity.add("a")
    popularity.add("a")
    popularity.add("gone")
    assert list(popularity.ranked()) == ["a", "c", "b", "d"]
    assert (list(popularity.ranked("red")), popularity.count("a")) == (["a", "b"], 2)


def test_another_catalogue_goes_on_with_the_counts() -> None:
    popularity = Popularity(CATEGORIES, ["c", "b", "c"])
    other = {item: names for item, names in CATEGORIES.items() if item != "b"} | {"new": ("red",)}
    later = popularity.over(other)
    popularity.add("c")  # while the other was made
    later.catch_up(popularity)
    assert (list(later.ranked()), later.count("c"), later.count("b")) == (["c", "a", "d", "new"], 3, 0)
    assert list(later.ranked("red")) == ["a", "new"]
    later.add("new")
    later.add("b")  # of the catalogue before
    back = later.over(CATEGORIES)
    later.add("b")
    back.catch_up(later)
    assert (list(back.ranked()), back.count("b"), back.count("new")) == (["b", "c", "a", "d"], 3, 0)


@given(wanted=st.lists(st.sampled_from("abcdx"), max_size=40))
def test_counting_one_by_one_is_counting_at_once(wanted: list[str]) -> None:
    grown = Popularity(CATEGORIES, [])
    for item in wanted:
        grown.add(item)
    whole = Popularity(CATEGORIES, wanted)
    for category in (None, "all", "red", "blue"):
        assert list(grown.ranked(category)) == list(whole.ranked(category))


def test_the_order_is_put_right_however_much_moved_before_somebody_asks() -> None:
    items = [f"i{number:03d}" for number in range(700)]
    categories = {item: ("even" if number % 2 == 0 else "odd",) for number, item in enumerate(items)}
    drawn, wanted = random.Random(0), list[str]()
    grown = Popularity(categories, [])
    for step in range(3000):
        wanted.append(drawn.choice(items))
        grown.add(wanted[-1])
        if step in (3, 900, 901, 2999):
            counts = Counter(wanted)
            ordered = sorted(items, key=lambda item: (-counts[item], item))
            assert list(grown.ranked()) == ordered
            assert list(grown.ranked("odd")) == [one for one in ordered if categories[one] == ("odd",)]


def test_only_positive_events_count_and_each_once() -> None:
    hot = HotState(CATEGORIES, [PastEvent("ada", RecentEvent(1, "a", Action.CLICK))])
    for number, action in enumerate([Action.CLICK, Action.DISLIKE, Action.IMPRESSION, Action.PURCHASE]):
        hot.apply(Event(f"e{number}", "b", action, timestamp=number, user_id="ada"))
    hot.apply(Event("again", "b", Action.CLICK, timestamp=0, user_id="ada"))
    assert (hot.popularity.count("a"), hot.popularity.count("b")) == (1, 2)
    assert [event.action for event in hot.states.get(Visitor("ada")).recent] == [
        Action.CLICK,
        Action.CLICK,
        Action.PURCHASE,
    ]
