"""Accuracy metrics on numbers worked out by hand, against slow twins, and their guards."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.errors import ModelError
from asterism.evaluation.metrics import (
    METRICS,
    NOT_FOUND,
    check_lists,
    mean_metrics,
    mrr,
    ndcg,
    per_case_metrics,
    recall,
    target_ranks,
)

#: Found first, third, and not at all.
LISTS = np.array([[4, 1, 2], [3, 5, 0], [1, 2, -1]])
TARGETS = np.array([4, 0, 9])


def slow_metric(name: str, ranked: list[int], target: int, k: int) -> float:
    for position, item in enumerate(ranked[:k], start=1):
        if item == target:
            return {"recall": 1.0, "hr": 1.0, "ndcg": 1 / log2(position + 1), "mrr": 1 / position}[name]
    return 0.0


def test_a_target_has_the_rank_at_which_it_stands() -> None:
    assert target_ranks(LISTS, TARGETS).tolist() == [0, 2, NOT_FOUND]


def test_padding_is_never_a_target() -> None:
    assert target_ranks(np.array([[-1, -1]]), np.array([0])).tolist() == [NOT_FOUND]


def test_means_by_hand() -> None:
    means = mean_metrics(target_ranks(LISTS, TARGETS), (1, 3))
    assert means["recall@1"] == means["hr@1"] == 1 / 3
    assert means["recall@3"] == means["hr@3"] == pytest.approx((1 + 1 + 0) / 3)
    assert means["ndcg@3"] == pytest.approx((1 / log2(2) + 1 / log2(4)) / 3)
    assert means["ndcg@1"] == pytest.approx((1 / log2(2)) / 3)
    assert means["mrr@3"] == pytest.approx((1 / 1 + 1 / 3) / 3)
    assert means["mrr@1"] == pytest.approx((1 / 1) / 3)


def test_values_are_kept_case_by_case_and_cutoffs_are_sorted() -> None:
    values = per_case_metrics(np.array([0, 2, NOT_FOUND]), (5, 1, 5))
    assert list(values) == ["recall@1", "recall@5", "hr@1", "hr@5", "ndcg@1", "ndcg@5", "mrr@1", "mrr@5"]
    assert values["ndcg@5"].tolist() == [1.0, 1 / log2(4), 0.0]
    assert values["mrr@5"].tolist() == [1.0, 1 / 3, 0.0]


def test_the_cutoff_counts_the_first_k_places() -> None:
    ranks = np.array([9, 10])
    for metric in (recall, ndcg, mrr):
        assert metric(ranks, 10)[0] > 0
        assert metric(ranks, 10)[1] == 0


def test_a_cutoff_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        recall(np.array([0]), 0)


def test_no_cases_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no value"):
        mean_metrics(np.array([], dtype=np.int64), (1,))


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 20))
def test_vectorised_metrics_agree_with_the_slow_twin(seed: int, cases: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(items) for _ in range(cases)])
    lists[:, rng.integers(0, items) + 1 :] = -1
    targets = rng.integers(0, items, size=cases)
    values = per_case_metrics(target_ranks(lists, targets), (1, 3, 10))
    for name in METRICS:
        for k in (1, 3, 10):
            slow = [slow_metric(name, row.tolist(), int(target), k) for row, target in zip(lists, targets, strict=True)]
            assert values[f"{name}@{k}"] == pytest.approx(slow)


@given(st.lists(st.integers(-1, 60), min_size=1, max_size=30))
def test_metrics_lie_between_zero_and_one_and_grow_with_the_cutoff(ranks: list[int]) -> None:
    for metric in METRICS.values():
        values = np.stack([metric(np.array(ranks), k) for k in (1, 3, 5, 10, 20, 50)])
        assert (values >= 0).all()
        assert (values <= 1).all()
        assert (np.diff(values, axis=0) >= 0).all()


def test_valid_lists_pass() -> None:
    check_lists(np.array([[0, 4, -1], [-1, -1, -1]]), rows=2, k=3, catalogue_size=5)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[0, 1, 2], [3, 3, -1]], "case 11: item 3 stands twice"),
        ([[0, 1, 2], [3, 5, -1]], "case 11: item 5 is not one of 5 items"),
        ([[-2, 1, 2], [3, 4, -1]], "case 10: item -2 is not one of 5 items"),
        ([[0, 1, 2], [3, -1, 4]], "case 11: item 4 stands after padding"),
        ([[0, 1], [2, 3]], r"cases 10 to 11: .*shape \(2, 2\); it must return integers of shape \(2, 3\)"),
        ([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], "returned float64"),
    ],
)
def test_a_broken_list_is_named_by_its_case(lists: list[list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_lists(np.array(lists), rows=2, k=3, catalogue_size=5, first_case=10)
