"""The best columns of a score matrix and membership of histories, against slow twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asterism.evaluation.ranking import in_history, item_counts, top_columns
from worlds import sequences_of


def test_of_equal_scores_the_lower_column_comes_first() -> None:
    scores = np.array([[1.0, 3.0, 1.0, 1.0, 2.0]])
    assert top_columns(scores, 4).tolist() == [[1, 4, 0, 2]]


def test_an_impossible_column_is_never_picked_and_short_rows_are_padded() -> None:
    scores = np.array([[-np.inf, 0.0, -np.inf], [1.0, 0.0, 2.0]])
    assert top_columns(scores, 4).tolist() == [[1, -1, -1, -1], [2, 0, 1, -1]]


def test_nothing_is_ranked_where_there_is_nothing() -> None:
    assert top_columns(np.empty((2, 0)), 2).tolist() == [[-1, -1], [-1, -1]]
    assert top_columns(np.empty((0, 3)), 2).shape == (0, 2)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 35))
def test_top_columns_agree_with_a_full_stable_sort(seed: int, columns: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice([-np.inf, 0.0, 0.5, 1.0, 2.0], size=(5, columns))
    for row, picked in zip(scores, top_columns(scores, k), strict=True):
        slow = sorted((column for column in range(columns) if row[column] > -np.inf), key=lambda c: (-row[c], c))[:k]
        assert picked.tolist() == slow + [-1] * (k - len(slow))


def test_history_is_looked_up_row_by_row() -> None:
    histories = sequences_of([[0, 2, 4], [], [4]])
    lists = np.array([[2, 1, -1], [2, 0, -1], [4, 0, -1]])
    assert in_history(lists, histories, 5).tolist() == [
        [True, False, False],
        [False, False, False],
        [True, False, False],
    ]


def test_items_without_events_are_counted_as_zero() -> None:
    assert item_counts(sequences_of([[0, 2], [2]]), 4).tolist() == [1, 0, 2, 0]
