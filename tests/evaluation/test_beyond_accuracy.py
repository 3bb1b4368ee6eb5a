"""Coverage, concentration, novelty, diversity and the long tail on numbers worked out by hand and by slow twins."""

from __future__ import annotations

from itertools import combinations
from math import log2, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import ModelError
from asterism.evaluation.beyond_accuracy import (
    beyond_accuracy,
    category_vectors,
    coverage,
    exposure,
    gini,
    intra_list_diversity,
    is_tail,
    long_tail_share,
    novelty,
)

LISTS = np.array([[0, 1], [0, 2], [0, -1]])
NOTHING = np.full((2, 3), -1)


def test_exposure_counts_lists_and_skips_padding() -> None:
    assert exposure(LISTS, 5).tolist() == [3, 1, 1, 0, 0]


def test_coverage_is_the_shown_share_of_the_catalogue() -> None:
    assert coverage(exposure(LISTS, 5)) == 3 / 5


def test_gini_by_hand() -> None:
    # ascending 0, 0, 1, 1, 3; weights 2j - n - 1 = -4, -2, 0, 2, 4
    assert gini(np.array([3, 1, 1, 0, 0])) == pytest.approx((0 * 1 + 2 * 1 + 4 * 3) / (5 * 5))


def test_gini_is_zero_for_equal_shares_and_near_one_for_a_monopoly() -> None:
    assert gini(np.full(7, 4)) == 0.0
    assert gini(np.array([0, 0, 0, 9])) == pytest.approx((4 - 1) / 4)
    assert gini(np.zeros(3, dtype=np.int64)) == 0.0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_gini_is_half_the_relative_mean_difference(amounts: list[int]) -> None:
    total, size = sum(amounts), len(amounts)
    slow = sum(abs(a - b) for a in amounts for b in amounts) / (2 * size * total) if total else 0.0
    assert gini(np.array(amounts)) == pytest.approx(slow, abs=1e-12)


def test_novelty_is_mean_self_information_with_one_added() -> None:
    counts = np.array([3, 1, 0])  # shares (3+1)/7, (1+1)/7, (0+1)/7
    assert novelty(np.array([[0, 2], [1, -1]]), counts) == pytest.approx(-(log2(4 / 7) + log2(1 / 7) + log2(2 / 7)) / 3)


def test_the_head_holds_four_fifths_of_the_events() -> None:
    assert is_tail(np.array([1, 70, 10, 9, 10, 0])).tolist() == [True, False, False, True, True, True]


def test_a_head_item_may_reach_over_the_border() -> None:
    assert is_tail(np.array([79, 20, 1])).tolist() == [False, False, True]


def test_long_tail_share_counts_places() -> None:
    assert long_tail_share(np.array([[0, 1], [2, -1]]), np.array([79, 20, 1])) == 1 / 3


def test_diversity_by_hand() -> None:
    vectors = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    lists = np.array([[0, 1, 2], [0, 2, -1], [1, -1, -1]])  # the last has no pair
    first = 1 - (0 + 1 / sqrt(2) + 1 / sqrt(2)) / 3
    second = 1 - 1 / sqrt(2)
    assert intra_list_diversity(lists, vectors) == pytest.approx((first + second) / 2)


def test_an_item_without_a_vector_is_unlike_every_other() -> None:
    assert intra_list_diversity(np.array([[0, 1, 2]]), np.array([[1.0], [1.0], [0.0]])) == pytest.approx(1 - 1 / 3)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_diversity_agrees_with_walking_the_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 4))
    lists = np.stack([rng.permutation(12)[:5] for _ in range(6)])
    lists[0, 3:] = -1
    slow = []
    for row in lists:
        pairs = list(combinations(vectors[row[row >= 0]], 2))
        slow.append(1 - sum(a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs) / len(pairs))
    assert intra_list_diversity(lists, vectors) == pytest.approx(np.mean(slow))


@given(st.integers(0, 10_000), st.integers(2, 15))
def test_counts_over_lists_agree_with_their_slow_twins(seed: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, size=items)
    counts[0] += 1
    lists = np.stack([rng.permutation(items)[:4] for _ in range(6)])
    lists[1, 1:] = -1
    shown = [int(item) for row in lists for item in row if item >= 0]
    head: set[int] = set()
    for item in sorted(range(items), key=lambda one: (-counts[one], one)):
        if sum(counts[one] for one in head) >= 0.8 * counts.sum():
            break
        head.add(item)
    found = beyond_accuracy(lists, counts)
    k = lists.shape[1]
    assert found[f"coverage@{k}"] == len(set(shown)) / items
    assert found[f"long_tail_share@{k}"] == pytest.approx(sum(item not in head for item in shown) / len(shown))
    information = [-log2((counts[item] + 1) / (counts.sum() + items)) for item in shown]
    assert found[f"novelty@{k}"] == pytest.approx(sum(information) / len(shown))
    assert exposure(lists, items).tolist() == [shown.count(item) for item in range(items)]


def test_categories_make_vectors() -> None:
    vectors = category_vectors([["lips", "red"], ["lips"], [], ["nails", "nails"]])
    assert vectors.toarray().tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    lists = np.array([[0, 1], [1, 3]])
    assert intra_list_diversity(lists, vectors) == pytest.approx(((1 - 1 / sqrt(2)) + 1) / 2)


def test_missing_vectors_are_an_error() -> None:
    with pytest.raises(ModelError, match="item 2 is listed, but there are vectors for 2 items"):
        intra_list_diversity(LISTS, np.ones((2, 3)))


def test_empty_lists_have_no_novelty_diversity_or_tail() -> None:
    found = beyond_accuracy(NOTHING, np.array([1, 2]), np.ones((2, 2)))
    assert found == {
        "coverage@3": 0.0,
        "gini@3": 0.0,
        "novelty@3": None,
        "long_tail_share@3": None,
        "diversity@3": None,
    }


def test_without_vectors_diversity_is_absent() -> None:
    assert "diversity@2" not in beyond_accuracy(LISTS, np.ones(5, dtype=np.int64))
