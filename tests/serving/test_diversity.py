"""MMR and the greedy determinant: by hand, and against slow twins."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.errors import RequestError
from asterism.serving.reranking import Candidates, Determinant, MarginalRelevance, SlatePlan, arrange_slate
from asterism.serving.reranking.slate import Method

#: Items 0 and 1 are nearly the same, item 2 stands alone.
COSINES = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]])
RELEVANCE = np.array([1.0, 0.8, 0.5])


def candidates_of(relevance: np.ndarray, similarities: np.ndarray | None) -> Candidates:
    count = len(relevance)
    plain = np.zeros(count, dtype=np.int64)
    return Candidates(relevance, plain, np.zeros((count, 0), np.bool_), np.ones(count, np.bool_), similarities)


def order(method: Method, strength: float, relevance: np.ndarray, similarities: np.ndarray, slots: int) -> list[int]:
    plan = SlatePlan(slots, diversity=method, strength=strength)
    return arrange_slate(candidates_of(relevance, similarities), plan).rows.tolist()


def test_mmr_by_hand() -> None:
    objective = MarginalRelevance(RELEVANCE, COSINES, strength=0.4)
    np.testing.assert_allclose(objective.gains, [0.6, 0.48, 0.3])
    objective.take(0)
    np.testing.assert_allclose(objective.gains[1:], [0.48 - 0.4 * 0.9, 0.3 - 0.0])
    objective.take(2)
    np.testing.assert_allclose(objective.gains[1], 0.48 - 0.4 * 0.9)  # the nearest chosen one is still item 0
    assert order("mmr", 0.4, RELEVANCE, COSINES, 3) == [0, 2, 1]
    assert order("mmr", 0.2, RELEVANCE, COSINES, 3) == [0, 1, 2]


def test_determinant_by_hand() -> None:
    objective = Determinant(RELEVANCE, COSINES, strength=0.5, slots=3)  # (1 - θ) / θ = 1
    np.testing.assert_allclose(objective.gains, [1.0, 0.8, 0.5])
    objective.take(0)
    np.testing.assert_allclose(objective.gains[1:], [0.8 + log(1 - 0.81), 0.5 + log(1.0)])
    objective.take(2)
    np.testing.assert_allclose(objective.gains[1], 0.8 + log(1 - 0.81 - 0.01))
    assert order("dpp", 0.5, RELEVANCE, COSINES, 3) == [0, 2, 1]
    assert order("dpp", 0.1, RELEVANCE, COSINES, 3) == [0, 1, 2]


def test_what_adds_nothing_new_comes_last_by_relevance() -> None:
    same = np.ones((4, 4))
    same[3, :3] = same[:3, 3] = 0.0
    assert order("dpp", 0.3, np.array([0.9, 0.5, 0.7, 0.1]), same, 4) == [0, 3, 2, 1]


def test_great_relevances_do_not_overflow() -> None:
    assert order("dpp", 0.01, np.array([1.0, 1000.0, 900.0]), COSINES, 3) == [1, 2, 0]


def test_diversity_without_similarities_is_refused() -> None:
    with pytest.raises(RequestError, match="mmr needs the candidates' similarities"):
        arrange_slate(candidates_of(RELEVANCE, None), SlatePlan(2, diversity="mmr", strength=0.3))


def slow_mmr(relevance: np.ndarray, cosines: np.ndarray, strength: float, slots: int) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < min(slots, len(relevance)):
        worth = {
            one: (1 - strength) * relevance[one]
            - (strength * max(cosines[one, other] for other in chosen) if chosen else 0.0)
            for one in range(len(relevance))
            if one not in chosen
        }
        chosen.append(max(worth, key=lambda one: (worth[one], -one)))
    return chosen


def slow_determinants(relevance: np.ndarray, cosines: np.ndarray, strength: float, slots: int) -> list[int]:
    """At each step, the whole determinant of every extended set."""
    alpha = (1 - strength) / (2 * strength)
    quality = np.array([exp(alpha * one) for one in relevance])
    kernel = quality[:, None] * cosines * quality[None, :]
    chosen: list[int] = []
    while len(chosen) < min(slots, len(relevance)):
        rest = [one for one in range(len(relevance)) if one not in chosen]
        worth = {one: np.linalg.slogdet(kernel[np.ix_([*chosen, one], [*chosen, one])])[1] for one in rest}
        chosen.append(max(worth, key=lambda one: (worth[one], -one)))
    return chosen


@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), slots=st.integers(1, 12), strength=st.floats(0.05, 0.95))
def test_the_slow_twins_agree(seed: int, count: int, slots: int, strength: float) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 16))  # more dimensions than items: no determinant is zero
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines, relevance = vectors @ vectors.T, random.random(count)
    assert order("mmr", strength, relevance, cosines, slots) == slow_mmr(relevance, cosines, strength, slots)
    assert order("dpp", strength, relevance, cosines, slots) == slow_determinants(relevance, cosines, strength, slots)


def test_more_strength_spreads_a_slate() -> None:
    random = np.random.default_rng(3)
    vectors = np.repeat(np.eye(8)[:6], 10, axis=0) + random.normal(0, 0.1, (60, 8))  # the best ten are much alike
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines, relevance = vectors @ vectors.T, 1 / np.log2(np.arange(2.0, 62.0))

    def likeness(rows: list[int]) -> float:
        return float((cosines[np.ix_(rows, rows)].sum() - len(rows)) / (len(rows) * (len(rows) - 1)))

    for method in ("mmr", "dpp"):
        spread = [likeness(order(method, strength, relevance, cosines, 10)) for strength in (0.0, 0.1, 0.5)]
        assert spread[0] > spread[1] > spread[2]
