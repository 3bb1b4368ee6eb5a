"""Pairs of what a user took and what the same user left, from logs written by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from asterism.config.run import DataConfig
from asterism.core import records
from asterism.data.dataset import Dataset
from asterism.data.preferences import NEAR_SECONDS, preference_pairs
from asterism.data.split import Split
from asterism.data.splits import split_dataset

Row = tuple[str, str, int, str]
END: list[Row] = [("u", "v", 10**6, "click"), ("u", "t", 10**6 + 1, "click")]  # validation and test


def pairs_of(rows: list[Row], **data: object) -> dict[tuple[str, int], tuple[list[str], float]]:
    """(item, timestamp) of each training event → the rejected items and the weight."""
    columns = dict(zip(("user_id", "item_id", "timestamp", "action"), map(list, zip(*rows, strict=True)), strict=True))
    if "split" in data:
        columns["split"] = data["split"]
    table = pa.table(columns)
    items = pa.table({records.ITEM_ID: sorted(set(columns["item_id"])), records.TITLE: sorted(set(columns["item_id"]))})
    config = DataConfig(path="nowhere", split="by_column" if "split" in data else "leave_one_out")
    split: Split = split_dataset(Dataset(table, items), config)
    found = preference_pairs(table, split, config.split)
    assert found.rejected.shape[0] == len(found.weights) == split.train.events
    assert found.count == int((found.rejected >= 0).sum())
    return {
        (split.items.id_of(int(item)), int(time)): (
            [split.items.id_of(int(one)) for one in rejected if one >= 0],
            float(weight),
        )
        for item, time, rejected, weight in zip(
            split.train.items, split.train.timestamps, found.rejected, found.weights, strict=True
        )
    }


def test_what_was_shown_and_left_loses_to_what_was_clicked() -> None:
    slate: list[Row] = [("u", item, 100, "impression") for item in "abc"]
    assert pairs_of([*slate, ("u", "b", 100, "click"), *END]) == {("b", 100): (["c", "a"], 1.0)}


def test_a_purchase_beats_a_click_and_weighs_more() -> None:
    log: list[Row] = [("u", "a", 1, "click"), ("u", "b", 2, "purchase"), ("u", "c", 3, "cart"), *END]
    assert pairs_of(log) == {("a", 1): ([], 1.0), ("b", 2): (["a", "c"], 3.0), ("c", 3): (["a"], 2.0)}


def test_an_item_counts_by_the_best_that_was_done_to_it() -> None:
    log: list[Row] = [
        ("u", "a", 1, "impression"), ("u", "b", 2, "skip"), ("u", "c", 3, "click"),
        ("u", "a", 90_000, "purchase"), ("u", "b", 90_001, "click"), *END,
    ]  # fmt: skip
    assert pairs_of(log)["c", 3] == ([], 1.0), "a was bought and b clicked a day later"
    assert pairs_of(log)["a", 90_000] == (["b"], 3.0)


def test_what_was_disliked_loses_and_never_wins() -> None:
    log: list[Row] = [("u", "a", 1, "purchase"), ("u", "a", 2, "dislike"), ("u", "b", 3, "click"), *END]
    assert pairs_of(log) == {("a", 1): ([], 0.0), ("b", 3): (["a"], 1.0)}


def test_only_the_same_users_rows_nearby_count() -> None:
    late = 1 + NEAR_SECONDS + 1
    log: list[Row] = [
        ("u", "a", 1, "skip"), ("u", "b", late, "click"), ("u", "c", late, "skip"),
        ("u", "d", late + NEAR_SECONDS, "click"), *END, ("w", "x", late, "skip"), ("w", "y", late + 1, "click"),
    ]  # fmt: skip
    assert pairs_of(log) == {
        ("b", late): (["c"], 1.0),
        ("d", late + NEAR_SECONDS): (["c"], 1.0),
        ("y", late + 1): (["x"], 1.0),
    }


def test_nothing_newer_than_the_training_part_is_seen() -> None:
    log: list[Row] = [("u", "a", 1, "click"), ("u", "b", 2, "skip"), ("u", "v", 3, "click"), ("u", "t", 4, "click")]
    assert pairs_of(log) == {("a", 1): ([], 1.0)}


def test_rows_outside_the_training_part_are_not_seen() -> None:
    log: list[Row] = [
        ("u", "a", 1, "skip"), ("u", "b", 2, "skip"), ("u", "c", 3, "click"), ("u", "v", 4, "click")
    ]  # fmt: skip
    assert pairs_of(log, split=["train", "test", "train", "test"]) == {("c", 3): (["a"], 1.0)}


def test_the_nearest_four_different_items_are_kept() -> None:
    before: list[Row] = [("u", item, second, "skip") for second, item in enumerate("abcdeff")]
    rejected, _ = pairs_of([*before, ("u", "z", 7, "click"), *END])["z", 7]
    assert rejected == ["f", "e", "d", "c"]


def test_a_log_of_one_kind_of_action_has_no_pairs() -> None:
    log: list[Row] = [("u", "a", 1, "rating"), ("u", "b", 2, "rating"), ("u", "c", 3, "rating"), *END]
    assert all(rejected == [] for rejected, _ in pairs_of(log).values())


def test_every_pair_is_what_a_slow_search_finds() -> None:
    random = np.random.default_rng(0)
    actions = ["impression", "skip", "click", "cart", "purchase", "dislike"]
    rows: list[Row] = [
        (f"u{random.integers(4)}", f"i{random.integers(12)}", int(random.integers(4_000)), str(random.choice(actions)))
        for _ in range(70)
    ]
    rows += [(f"u{user}", f"i{10 + step}", 9_000 + step, "click") for user in range(4) for step in range(2)]
    value = {"impression": 0, "skip": 0, "click": 1, "cart": 2, "purchase": 3, "dislike": -1}
    compared = 0
    for user in range(4):
        own = [row for row in rows if row[0] == f"u{user}"]
        found = pairs_of(own)
        newest = max(time for _, time in found)
        seen = [row for row in own if row[2] <= newest]
        for (item, time), (rejected, weight) in found.items():
            verdicts = {
                one: -1 if any(r[3] == "dislike" for r in seen if r[1] == one) else max(
                    value[r[3]] for r in seen if r[1] == one
                )
                for one in {r[1] for r in seen}
            }  # fmt: skip
            if weight == 0:
                assert verdicts[item] == -1
                continue
            near = {r[1] for r in seen if abs(r[2] - time) <= NEAR_SECONDS and verdicts[r[1]] < weight}
            assert set(rejected) <= near
            assert len(rejected) == min(4, len(near))
            compared += len(rejected)
    assert compared > 30
