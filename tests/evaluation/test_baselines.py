"""Baselines in worlds whose right answer is known, and against slow twins."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.data.split import Split
from asterism.evaluation.baselines import default_baselines, item_knn, markov, popularity
from worlds import checkerboard, everyone_ends_alike, leave_one_out, markov_chain, random_market, sequences_of


def slow_popular(split: Split) -> list[int]:
    counts = Counter(split.train.items.tolist())
    return sorted(range(len(split.items)), key=lambda item: (-counts[item], item))


def slow_ranking(split: Split, scores: dict[int, float], excluded: set[int], k: int) -> list[int]:
    popular = slow_popular(split)
    candidates = [item for item in popular if item not in excluded]
    # Rounded, because sums of single precision may tell apart what is equal.
    ranked = sorted(candidates, key=lambda item: (-round(scores.get(item, 0.0), 5), popular.index(item)))[:k]
    return ranked + [-1] * (k - len(ranked))


def slow_knn_scores(split: Split, history: list[int], decay: float, shrinkage: float) -> dict[int, float]:
    takers = {item: set() for item in range(len(split.items))}
    for user in range(len(split.train)):
        for item in split.train.items[split.train.row(user)].tolist():
            takers[item].add(user)
    scores: dict[int, float] = {}
    for age, item in enumerate(reversed(history)):
        for other in takers:
            if other != item and (shared := len(takers[item] & takers[other])):
                cosine = shared / (sqrt(len(takers[item])) * sqrt(len(takers[other])) + shrinkage)
                scores[other] = scores.get(other, 0.0) + decay**age * cosine
    return scores


def slow_markov_scores(split: Split, history: list[int]) -> dict[int, float]:
    followers: Counter[int] = Counter()
    for user in range(len(split.train)):
        row = split.train.items[split.train.row(user)].tolist()
        followers.update(after for before, after in pairwise(row) if before == history[-1])
    return dict(followers)


def test_popularity_orders_by_training_events_then_by_index() -> None:
    train = sequences_of([[2, 2, 1], [0, 2], [1]])
    found = popularity(train, 5).recommend(sequences_of([[2], []]), 6, exclude_history=False)
    assert found.tolist() == [[2, 1, 0, 3, 4, -1]] * 2


def test_popularity_without_the_history() -> None:
    train = sequences_of([[2, 2, 1], [0, 2], [1]])
    found = popularity(train, 4).recommend(sequences_of([[2, 0], []]), 3, exclude_history=True)
    assert found.tolist() == [[1, 3, -1], [2, 1, 0]]


def test_popularity_is_right_where_everyone_ends_alike() -> None:
    split = everyone_ends_alike()
    best = popularity(split.train, len(split.items))
    assert (best.recommend(split.test.histories, 1, exclude_history=False)[:, 0] == split.test.targets).all()
    assert not (best.recommend(split.test.histories, 5, exclude_history=True) == 0).any()


def test_neighbours_know_the_checkerboard() -> None:
    split = checkerboard()
    found = item_knn(split.train, len(split.items)).recommend(split.test.histories, 1, exclude_history=True)
    assert found[:, 0].tolist() == split.test.targets.tolist() == list(range(20))


def test_popularity_does_not_know_the_checkerboard() -> None:
    split = checkerboard()
    found = popularity(split.train, len(split.items)).recommend(split.test.histories, 1, exclude_history=True)
    assert (found[:, 0] == split.test.targets).mean() < 0.2


@pytest.mark.parametrize("exclude_history", [False, True])
def test_a_markov_chain_is_followed(exclude_history: bool) -> None:
    split = markov_chain()
    found = markov(split.train, len(split.items)).recommend(split.test.histories, 1, exclude_history)
    assert found[:, 0].tolist() == split.test.targets.tolist()


def test_neighbours_find_the_chain_among_few() -> None:
    split = markov_chain()
    found = item_knn(split.train, len(split.items)).recommend(split.test.histories, 2, exclude_history=True)
    assert (found == split.test.targets[:, None]).any(axis=1).all()


def test_cosine_and_shrinkage_by_hand() -> None:
    # takers: 0 {a, b}, 1 {a, b, c}, 2 {a}; a user who takes an item twice is one taker
    train = sequences_of([[0, 1, 2, 0], [0, 1], [1]])
    matrix = item_knn(train, 3, shrinkage=1.0)
    similar = np.zeros((3, 3))
    similar[:, matrix.popular] = matrix.item_to_item.toarray()
    zero_one, zero_two, one_two = 2 / (sqrt(2) * sqrt(3) + 1), 1 / (sqrt(2) * 1 + 1), 1 / (sqrt(3) * 1 + 1)
    assert similar == pytest.approx(
        np.array([[0, zero_one, zero_two], [zero_one, 0, one_two], [zero_two, one_two, 0]]), rel=1e-6
    )


def test_only_the_nearest_neighbours_are_kept() -> None:
    split = random_market(seed=1)
    full = item_knn(split.train, len(split.items), neighbours=25).item_to_item.toarray()
    pruned = item_knn(split.train, len(split.items), neighbours=3).item_to_item.toarray()
    for full_row, pruned_row in zip(full, pruned, strict=True):
        assert sorted(pruned_row[pruned_row > 0]) == sorted(full_row[full_row > 0])[-3:]


def test_a_newer_event_weighs_more() -> None:
    train = sequences_of([[0, 2], [1, 3]])
    recommender = item_knn(train, 4, recency_decay=0.5, shrinkage=0.0)
    assert recommender.recommend(sequences_of([[0, 1], [1, 0]]), 2, exclude_history=True).tolist() == [[3, 2], [2, 3]]


@settings(max_examples=15)
@given(st.integers(0, 1000), st.booleans())
def test_baselines_agree_with_their_slow_twins(seed: int, exclude_history: bool) -> None:
    split = random_market(users=15, items=12, seed=seed)
    _, chain, neighbours = default_baselines(split)
    neighbours = item_knn(split.train, 12, recency_decay=0.7, shrinkage=2.0)
    histories = split.test.histories
    found_chain = chain.recommend(histories, 8, exclude_history)
    found_neighbours = neighbours.recommend(histories, 8, exclude_history)
    for case in range(len(split.test)):
        history = histories.items[histories.row(case)].tolist()
        excluded = set(history) if exclude_history else set()
        slow = slow_ranking(split, slow_markov_scores(split, history), excluded, 8)
        assert found_chain[case].tolist() == slow
        slow_scores = slow_knn_scores(split, history, 0.7, 2.0)
        fast = [slow_scores.get(item, 0.0) for item in found_neighbours[case].tolist() if item >= 0]
        slow = slow_ranking(split, slow_scores, excluded, 8)
        assert fast == pytest.approx([slow_scores.get(item, 0.0) for item in slow if item >= 0], rel=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 40))
def test_an_excluded_history_is_never_recommended_and_all_else_is(seed: int, k: int) -> None:
    split = random_market(users=10, items=20, seed=seed)
    histories = split.test.histories
    for one in default_baselines(split):
        for case, row in enumerate(one.recommend(histories, k, exclude_history=True).tolist()):
            history = set(histories.items[histories.row(case)].tolist())
            listed = [item for item in row if item != -1]
            assert not history & set(listed)
            assert len(set(listed)) == len(listed) == min(k, 20 - len(history))


def test_batches_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    split = random_market(seed=7)
    whole = [one.recommend(split.test.histories, 9, True) for one in default_baselines(split)]
    monkeypatch.setattr("asterism.evaluation.baselines._CELLS_PER_BATCH", 3 * len(split.items))
    monkeypatch.setattr("asterism.evaluation.baselines._ITEMS_PER_BLOCK", 4)
    for one, expected in zip(default_baselines(split), whole, strict=True):
        assert (one.recommend(split.test.histories, 9, True) == expected).all()


def test_an_empty_history_gets_what_is_popular() -> None:
    split = random_market(seed=2)
    for one in default_baselines(split):
        assert one.recommend(sequences_of([[]]), 5, exclude_history=True)[0].tolist() == slow_popular(split)[:5]


def test_users_without_training_events_are_no_obstacle() -> None:
    train = sequences_of([[], [0, 1], []])
    assert markov(train, 3).recommend(sequences_of([[0]]), 1, exclude_history=True).tolist() == [[1]]
    assert item_knn(train, 3).recommend(sequences_of([[0]]), 1, exclude_history=True).tolist() == [[1]]


def test_leave_one_out_needs_three_events() -> None:
    with pytest.raises(ValueError, match="three events"):
        leave_one_out([[0, 1]], 2)
