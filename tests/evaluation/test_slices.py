"""Slices part the cases, and their borders are where the labels say."""

from __future__ import annotations

import numpy as np

from asterism.evaluation.ranking import item_counts
from asterism.evaluation.slices import bucket_labels, slice_cases
from worlds import cases_of, half_cold, random_market


def test_labels_name_first_and_last_of_a_bucket() -> None:
    assert bucket_labels((0, 1, 5, 10)) == ["0", "1-4", "5-9", "10+"]


def test_borders_by_hand() -> None:
    lengths = [0, 1, 4, 5, 9, 10, 49, 50, 51]
    cases = cases_of([[0] * length for length in lengths], targets=list(range(9)))
    counts = np.array([0, 1, 4, 5, 19, 49, 50, 199, 200])
    found = {(one.group, one.label): one.cases.tolist() for one in slice_cases(cases, counts)}
    assert found["history_length", "0"] == [0]
    assert found["history_length", "1-4"] == [1, 2]
    assert found["history_length", "5-9"] == [3, 4]
    assert found["history_length", "10-19"] == [5]
    assert found["history_length", "20-49"] == [6]
    assert found["history_length", "50+"] == [7, 8]
    assert found["target_popularity", "0"] == [0]
    assert found["target_popularity", "1-4"] == [1, 2]
    assert found["target_popularity", "5-9"] == [3]
    assert found["target_popularity", "10-19"] == [4]
    assert found["target_popularity", "20-49"] == [5]
    assert found["target_popularity", "50-199"] == [6, 7]
    assert found["target_popularity", "200+"] == [8]


def test_cold_targets_are_those_never_trained_on() -> None:
    split = half_cold(10)
    found = {one.label: one.cases.tolist() for one in slice_cases(split.test, item_counts(split.train, 13))}
    assert found["never in training"] == [1, 3, 5, 7, 9]
    assert found["seen in training"] == [0, 2, 4, 6, 8]


def test_every_case_is_in_one_slice_of_each_group() -> None:
    split = random_market(seed=3)
    slices = slice_cases(split.test, item_counts(split.train, len(split.items)))
    for group in ("history_length", "target_popularity", "cold_items"):
        members = np.concatenate([one.cases for one in slices if one.group == group])
        assert sorted(members.tolist()) == list(range(len(split.test)))
