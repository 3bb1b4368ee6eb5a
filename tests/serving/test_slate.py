"""The slate as a whole: what must hold for any candidates and any plan, and the propensities by enumeration."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from math import ceil
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.serving.reranking import (
    Candidates,
    Caps,
    Exploration,
    Slate,
    SlatePlan,
    arrange_slate,
    freshness_factors,
    relevance_of_places,
)

CATEGORIES = 3
DAY = 86_400.0


def candidates_of(relevance: list[float], categories: list[list[int]] | None = None, **more: object) -> Candidates:
    count = len(relevance)
    members = np.zeros((count, CATEGORIES), dtype=np.bool_)
    for row, columns in enumerate(categories or []):
        members[row, columns] = True
    plain = Candidates(np.array(relevance), np.zeros(count, np.int64), members, np.ones(count, np.bool_))
    return replace(plain, **more)  # type: ignore[arg-type]


def caps_of(*rows: tuple[int, list[int]]) -> Caps:
    return Caps(tuple(window for window, _ in rows), np.array([most for _, most in rows], dtype=np.int64))


@st.composite
def markets(draw: st.DrawFn) -> tuple[Candidates, SlatePlan]:
    count = draw(st.integers(0, 14))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    vectors = random.normal(size=(count, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = Candidates(
        random.random(count),
        random.integers(0, draw(st.integers(1, 3)), count),
        random.random((count, CATEGORIES)) < 0.4,
        random.random(count) < 0.7,
        (vectors @ vectors.T).astype(np.float32),
    )
    slots = draw(st.integers(1, 10))
    pins = draw(st.dictionaries(st.integers(0, 11), st.integers(0, max(0, count - 1)), max_size=3 if count else 0))
    pins = {slot: row for slot, row in pins.items() if list(pins.values()).count(row) == 1}
    windows = draw(st.lists(st.integers(1, 12), max_size=2, unique=True))
    caps = [(window, draw(st.lists(st.integers(1, 4), min_size=CATEGORIES, max_size=CATEGORIES))) for window in windows]
    share = draw(st.sampled_from([0.0, 0.2, 0.5]))
    plan = SlatePlan(
        slots,
        pins,
        caps_of(*caps) if caps else None,
        draw(st.sampled_from(["none", "mmr", "dpp"])),
        draw(st.sampled_from([0.0, 0.3, 0.8])),
        Exploration(share, draw(st.integers(0, 3))) if share else None,
    )
    return found, plan


def breaks_a_cap(rows: list[int], members: np.ndarray, caps: Caps | None) -> bool:
    """Counted window by window."""
    if caps is None:
        return False
    for window, most in zip(caps.windows, caps.most, strict=True):
        for start in range(len(rows)):
            shown = rows[start : start + window]
            if any(sum(bool(members[row, one]) for row in shown) > most[one] for one in range(CATEGORIES)):
                return True
    return False


@given(market=markets(), seed=st.integers(0, 5))
def test_what_holds_for_any_slate(market: tuple[Candidates, SlatePlan], seed: int) -> None:
    candidates, plan = market
    slate = arrange_slate(candidates, plan, seed)
    rows = slate.rows.tolist()
    assert len(set(rows)) == len(rows) <= plan.slots, "nobody twice"
    assert set(rows) <= set(range(len(candidates))), "nobody invented"
    if plan.caps is None:
        assert len(rows) == min(plan.slots, len(candidates)), "nobody lost"
    for slot, row in plan.pins.items():
        if slot < len(rows) == plan.slots:
            assert rows[slot] == row
        assert slot >= plan.slots or row in rows
    if not plan.pins:
        assert not breaks_a_cap(rows, candidates.members, plan.caps)
    explored = np.flatnonzero(slate.explored)
    share = plan.exploration.share if plan.exploration else 0.0
    assert len(explored) <= ceil(2 * share * plan.slots)
    assert candidates.explorable[slate.rows[explored]].all()
    assert not {slot for slot in explored.tolist() if slot in plan.pins or slot < plan.exploration.first_slot}  # type: ignore[union-attr]
    again = arrange_slate(candidates, plan, seed)
    assert (again.rows.tolist(), again.propensities.tolist()) == (rows, slate.propensities.tolist())


@given(market=markets(), seed=st.integers(0, 5))
def test_a_pin_never_makes_another_item_break_a_cap(market: tuple[Candidates, SlatePlan], seed: int) -> None:
    candidates, plan = market
    rows = arrange_slate(candidates, plan, seed).rows.tolist()
    if plan.caps is None or len(rows) < plan.slots:
        return
    pinned = [row if slot in plan.pins else None for slot, row in enumerate(rows)]
    for window, most in zip(plan.caps.windows, plan.caps.most, strict=True):
        for start in range(max(1, len(rows) - window + 1)):
            for one in range(CATEGORIES):
                shown = sum(bool(candidates.members[row, one]) for row in rows[start : start + window])
                by_pins = [row for row in pinned[start : start + window] if row is not None]
                assert shown <= max(most[one], sum(bool(candidates.members[row, one]) for row in by_pins))


@given(market=markets())
def test_without_anything_asked_the_order_stays(market: tuple[Candidates, SlatePlan]) -> None:
    candidates, plan = market
    places = relevance_of_places(len(candidates))
    plain = replace(candidates, relevance=places, tiers=np.sort(candidates.tiers))
    assert arrange_slate(plain, SlatePlan(plan.slots)).rows.tolist() == list(range(min(plan.slots, len(plain))))


def test_tiers_are_used_up_one_after_the_other() -> None:
    candidates = candidates_of([0.1, 0.9, 0.5, 0.8], tiers=np.array([0, 1, 0, 2]))
    assert arrange_slate(candidates, SlatePlan(4)).rows.tolist() == [2, 0, 1, 3]


def test_caps_by_hand() -> None:
    candidates = candidates_of([6, 5, 4, 3, 2, 1], [[0], [0], [0], [1], [1], []])
    one_in_slate = caps_of((100, [1, 9, 9]))
    assert arrange_slate(candidates, SlatePlan(4, caps=one_in_slate)).rows.tolist() == [0, 3, 4, 5]
    apart = caps_of((2, [1, 9, 9]))
    assert arrange_slate(candidates, SlatePlan(6, caps=apart)).rows.tolist() == [0, 3, 1, 4, 2, 5]
    both = caps_of((2, [1, 9, 9]), (6, [9, 1, 9]))
    assert arrange_slate(candidates, SlatePlan(6, caps=both)).rows.tolist() == [0, 3, 1, 5, 2]


def test_a_pin_ahead_counts_for_what_comes_before_it() -> None:
    candidates = candidates_of([6, 5, 4, 3], [[0], [0], [1], [1]])
    plan = SlatePlan(3, pins={1: 1}, caps=caps_of((2, [1, 9, 9])))
    assert arrange_slate(candidates, plan).rows.tolist() == [2, 1, 3]


def test_a_pin_behind_the_end_of_a_short_slate_comes_last() -> None:
    candidates = candidates_of([3, 2, 1], [[0], [0], [1]])
    plan = SlatePlan(10, pins={7: 2, 12: 1}, caps=caps_of((100, [1, 9, 9])))
    assert arrange_slate(candidates, plan).rows.tolist() == [0, 2]


def test_diversity_knows_of_the_pins() -> None:
    cosines = np.array([[1.0, 0.0, 0.9], [0.0, 1.0, 0.0], [0.9, 0.0, 1.0]])
    candidates = candidates_of([0.9, 0.8, 0.1], similarities=cosines)
    plan = SlatePlan(2, pins={1: 2}, diversity="mmr", strength=0.5)
    assert arrange_slate(candidates, plan).rows.tolist() == [1, 2]


def enumerated(candidates: Candidates, plan: SlatePlan) -> Counter[tuple[int, ...]]:
    """The probability of every slate: all ways the draws can fall, each draw cut into equal parts."""
    assert plan.exploration is not None
    share, parts = plan.exploration.share, 12  # pools of up to four split twelve parts evenly
    found: Counter[tuple[int, ...]] = Counter()
    a_slot = [(0.0, place) for place in range(parts)] + [(0.99, 0)]
    for ways in product(a_slot, repeat=plan.slots):
        weight = np.prod([share / parts if first == 0.0 else 1 - share for first, _ in ways])
        draws = np.array([(first, (place + 0.5) / parts) for first, place in ways])
        found[tuple(forced(candidates, plan, draws).rows.tolist())] += float(weight)
    return found


def forced(candidates: Candidates, plan: SlatePlan, draws: np.ndarray) -> Slate:
    with mock.patch("asterism.serving.reranking.slate.np.random.default_rng") as make:
        make.return_value.random.return_value = draws
        return arrange_slate(candidates, plan)


@pytest.mark.parametrize(
    "plan",
    [
        SlatePlan(3, exploration=Exploration(0.3)),
        SlatePlan(3, exploration=Exploration(0.1)),
        SlatePlan(3, pins={1: 5}, exploration=Exploration(0.4)),
        SlatePlan(3, caps=caps_of((3, [1, 2, 9])), exploration=Exploration(0.3, first_slot=1)),
        SlatePlan(3, diversity="mmr", strength=0.5, exploration=Exploration(0.3)),
    ],
    ids=["plain", "bounded", "pinned", "capped", "diverse"],
)
def test_a_slates_propensities_multiply_to_its_probability(plan: SlatePlan) -> None:
    cosines = np.full((6, 6), 0.3) + 0.7 * np.eye(6)
    candidates = candidates_of([6, 5, 4, 3, 2, 1], [[0], [0], [1], [0], [1], [1, 2]], similarities=cosines)
    probability = enumerated(candidates, plan)
    assert sum(probability.values()) == pytest.approx(1.0)
    assert len(probability) > 3, "else nothing was explored"
    seen = set()
    for seed in range(400):
        slate = arrange_slate(candidates, plan, seed)
        rows = tuple(slate.rows.tolist())
        assert slate.propensities.prod() == pytest.approx(probability[rows])
        seen.add(rows)
    assert len(seen) > 3


def test_the_propensity_of_a_slot_is_conditional_on_those_above() -> None:
    candidates = candidates_of([6, 5, 4, 3, 2])
    plan = SlatePlan(2, exploration=Exploration(0.2))  # one draw at most; the pool below the slate holds three
    first = {slate_first(candidates, plan, seed) for seed in range(300)}
    assert first == {(0, 0.8, False), *((row, round(0.2 / 3, 12), True) for row in (2, 3, 4))}
    after_a_draw = [one for one in (arrange_slate(candidates, plan, seed) for seed in range(300)) if one.explored[0]]
    assert {(int(one.rows[1]), float(one.propensities[1])) for one in after_a_draw} == {(0, 1.0)}


def slate_first(candidates: Candidates, plan: SlatePlan, seed: int) -> tuple[int, float, bool]:
    one = arrange_slate(candidates, plan, seed)
    return int(one.rows[0]), round(float(one.propensities[0]), 12), bool(one.explored[0])


def test_the_share_of_explored_slots_is_the_stated_one() -> None:
    candidates = candidates_of(relevance_of_places(60).tolist())
    plan = SlatePlan(20, exploration=Exploration(0.1, first_slot=0))
    explored = [int(arrange_slate(candidates, plan, seed).explored.sum()) for seed in range(600)]
    assert max(explored) <= 4
    assert 0.085 < np.mean(explored) / 20 < 0.1  # a little below, as no slate has more than twice the share


def test_what_may_not_be_explored_is_not_drawn() -> None:
    explorable = np.array([True] * 5 + [False] * 5)
    candidates = candidates_of(relevance_of_places(10).tolist(), explorable=explorable)
    plan = SlatePlan(3, exploration=Exploration(0.5))
    slates = [arrange_slate(candidates, plan, seed) for seed in range(100)]
    drawn = {int(row) for one in slates for row in one.rows[one.explored]}
    assert drawn == {3, 4}


def test_relevance_and_freshness_by_hand() -> None:
    np.testing.assert_allclose(relevance_of_places(3), [1.0, 1 / np.log2(3), 0.5])
    created = np.array([100 * DAY, 86 * DAY, 72 * DAY, 101 * DAY, np.nan])
    np.testing.assert_allclose(freshness_factors(created, 100 * DAY, 0.8, 14.0), [1.8, 1.4, 1.2, 1.8, 1.0])
