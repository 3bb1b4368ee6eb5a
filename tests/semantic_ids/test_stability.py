"""Ids made anew: what changes is counted, and items keep theirs as far as can be."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from asterism.config import SemanticIdConfig
from asterism.core.errors import BundleError, DataError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids import (
    UNKNOWN,
    SemanticIdRegister,
    build_semantic_ids,
    code_changes,
    earlier_ids,
    fit,
    load_earlier_ids,
    save_semantic_ids,
)
from asterism.semantic_ids.balanced import size_limit
from asterism.semantic_ids.relabelling import matching_deduplication, matching_names
from semantic_id_trees import tree

NONE = [UNKNOWN] * 3


def test_changes_are_counted_by_hand() -> None:
    earlier = np.array([[0, 1, 0], [0, 1, 1], [2, 2, 0], [2, 3, 0], NONE], dtype=np.int32)
    now = np.array([[0, 1, 0], [0, 1, 0], [2, 1, 0], [1, 3, 0], [5, 5, 5]], dtype=np.int32)
    found = code_changes(earlier, now)
    assert (found.items, found.first, found.first_two, found.any) == (4, 0.25, 0.5, 0.75)
    assert str(found).startswith("25.00% of 4 items have another first code, 50.00% other first two codes, 75.00%")
    nobody = code_changes(earlier[4:], now[4:])
    assert (nobody.items, nobody.first, nobody.any) == (0, 0.0, 0.0)


def test_items_are_found_by_their_ids() -> None:
    table = SemanticIdTable(np.array([[0, 1, 0], [2, 3, 0]]), (4, 4, 4))
    assert earlier_ids(table, ["x", "y"], ["y", "z", "x"], 3).tolist() == [[2, 3, 0], NONE, [0, 1, 0]]
    for had, items, levels, message in (
        (["x"], ["x"], 3, "1 item ids do not belong to an earlier table of 2"),
        (["x", "y"], ["x"], 4, "have 3 levels and the new ones 4"),
        (["x", "y"], ["z"], 3, "none of the items"),
    ):
        with pytest.raises(DataError, match=message):
            earlier_ids(table, had, items, levels)


def test_codes_take_the_names_of_those_that_they_replace_by_hand() -> None:
    paths = np.array([[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 1]], dtype=np.int32)
    earlier = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], NONE], dtype=np.int32)
    first, second = matching_names(paths, earlier, (2, 2))
    assert first.tolist() == [1, 0]
    # Either order keeps two whole prefixes; the third item, whose first code changes in any case, decides.
    assert second.tolist() == [0, 1]
    assert matching_names(paths, np.full((6, 3), UNKNOWN, dtype=np.int32), (2, 2))[0].tolist() in ([0, 1], [1, 0])


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(2, 4), st.integers(0, 2**31))
def test_no_other_names_keep_more_first_codes(items: int, codes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    paths = rng.integers(0, codes, size=(items, 2)).astype(np.int32)
    earlier = np.column_stack([rng.integers(0, codes + 1, size=(items, 2)), np.arange(items)]).astype(np.int32)
    earlier[rng.random(items) < 0.2] = UNKNOWN
    names = matching_names(paths, earlier, (codes, codes))
    assert all(sorted(one.tolist()) == list(range(codes)) for one in names)

    def kept(first: np.ndarray, second: np.ndarray | None = None) -> int:
        same = first[paths[:, 0]] == earlier[:, 0]
        return int(same.sum() if second is None else (same & (second[paths[:, 1]] == earlier[:, 1])).sum())

    every = [np.array(one) for one in itertools.permutations(range(codes))]
    assert kept(names[0]) == max(kept(one) for one in every)
    assert kept(*names) == max(kept(names[0], one) for one in every)


def test_who_keeps_the_path_keeps_the_last_code() -> None:
    paths = np.array([[1], [1], [1], [2], [1]], dtype=np.int32)
    earlier = np.array([[2, 0], [1, 1], [1, 3], [2, 5], [UNKNOWN, UNKNOWN]], dtype=np.int32)
    assert matching_deduplication(paths, earlier).tolist() == [0, 1, 3, 5, 2]


@pytest.mark.parametrize("method", ["rq-kmeans", "balanced-rq-kmeans", "rq-kmeans+"])
def test_a_known_tree_keeps_its_ids_under_another_seed_and_turned_axes(method: str) -> None:
    vectors, _, _ = tree(0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    config = SemanticIdConfig.model_validate({"method": method, "levels": 3, "codes": 4, "epochs": 5})
    first, _ = build_semantic_ids(vectors, config, seed=0)
    cold, _ = build_semantic_ids(vectors @ turn, config, seed=1)
    again, quantizer = build_semantic_ids(vectors @ turn, config, seed=1, earlier=first.codes)
    assert code_changes(first.codes, cold.codes).first > 0.2
    assert code_changes(first.codes, again.codes).any == 0.0
    assert_array_equal(quantizer.assign(vectors @ turn), again.codes[:, :-1])


@pytest.mark.parametrize("method", ["rq-kmeans", "balanced-rq-kmeans"])
def test_more_items_and_noise_move_few_items_and_leave_hardly_a_larger_error(method: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1200, 12)) * np.linspace(2, 0.5, 12)
    config = SemanticIdConfig.model_validate({"method": method, "levels": 4, "codes": 16})
    before, _ = build_semantic_ids(vectors[:1000], config, seed=0)
    earlier = np.full((1200, 4), UNKNOWN, dtype=np.int32)
    earlier[:1000] = before.codes
    noisy = vectors + rng.normal(size=vectors.shape) * 0.1
    after, quantizer = build_semantic_ids(noisy, config, seed=1, earlier=earlier)
    cold = fit(noisy, config, seed=1)
    found = code_changes(earlier, after.codes)
    assert (found.items, len(after)) == (1000, 1200)
    assert found.first < 0.2  # 0.97 without the earlier ids, 0.5 where codes are only renamed
    errors = [np.square(noisy - one.reconstruct(one.assign(noisy))).sum() for one in (quantizer, cold)]
    assert errors[0] < 1.04 * errors[1]
    if method == "balanced-rq-kmeans":
        assert all(np.bincount(codes).max() <= size_limit(1200, 16) for codes in quantizer.assign(noisy).T)


def test_codes_that_no_item_had_start_far_from_the_others() -> None:
    """Three clusters, of which an earlier table knew two."""
    vectors = np.repeat([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 20, axis=0)
    vectors += np.random.default_rng(0).normal(size=(60, 2)) * 0.01
    earlier = np.full((60, 2), UNKNOWN, dtype=np.int32)
    earlier[:40] = np.column_stack([np.repeat([2, 0], 20), np.tile(np.arange(20), 2)])
    table, quantizer = build_semantic_ids(vectors, SemanticIdConfig(levels=2, codes=3), 0, earlier)
    assert table.codes[:, 0].tolist() == [2] * 20 + [0] * 20 + [1] * 20
    assert quantizer.sizes == (3,)
    # More codes than earlier, and fewer: both are fitted, and every item has its own id.
    for codes in (2, 8):
        grown, _ = build_semantic_ids(vectors, SemanticIdConfig(levels=2, codes=codes), 0, earlier)
        assert len(np.unique(grown.codes, axis=0)) == 60


def test_a_later_item_mostly_keeps_its_codes_through_a_refit() -> None:
    vectors = np.random.default_rng(1).normal(size=(1100, 12)) * np.linspace(2, 0.5, 12)
    config = SemanticIdConfig(levels=4, codes=16)
    table, quantizer = build_semantic_ids(vectors[:1000], config, seed=0)
    later = SemanticIdRegister(table, quantizer).assign(vectors[1000:])
    assert_array_equal(later[:, :-1], quantizer.assign(vectors[1000:]))
    ids = np.concatenate([table.codes, later])
    refitted, _ = build_semantic_ids(vectors, config, seed=5, earlier=ids)
    found = code_changes(ids[1000:], refitted.codes[1000:])
    assert found.items == 100
    assert found.first < 0.2  # 0.9 without the earlier ids


def test_earlier_ids_come_from_a_folder_by_id_or_by_row(tmp_path: Path) -> None:
    table, quantizer = build_semantic_ids(np.eye(4), SemanticIdConfig(levels=3, codes=2), seed=0)
    save_semantic_ids(tmp_path / "semantic_ids.safetensors", table, quantizer)
    assert load_earlier_ids(tmp_path, None, 5, 3).tolist() == [*table.codes.tolist(), NONE]
    with pytest.raises(DataError, match="3 items cannot be matched by row with 4"):
        load_earlier_ids(tmp_path, None, 3, 3)
    with pytest.raises(DataError, match="the earlier items have no ids"):
        load_earlier_ids(tmp_path, ["a"], 1, 3)
    pq.write_table(pa.table({"item_id": ["a", "b", "c", "d"]}), tmp_path / "items.parquet")
    assert load_earlier_ids(tmp_path, ["d", "e"], 2, 3).tolist() == [table.codes[3].tolist(), NONE]
    with pytest.raises(DataError, match="the new ones none"):
        load_earlier_ids(tmp_path, None, 4, 3)
    with pytest.raises(BundleError, match="no such file"):
        load_earlier_ids(tmp_path / "absent", None, 4, 3)


def test_earlier_ids_of_other_items_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(3, 4\) do not belong to 4 items of 4 codes"):
        build_semantic_ids(np.eye(4), SemanticIdConfig(codes=2), 0, np.zeros((3, 4), dtype=np.int32))
