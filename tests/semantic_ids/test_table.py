"""Unique ids, and room for items that come later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError, ModelError
from asterism.semantic_ids import Codebooks, SemanticIdRegister, build_semantic_ids, extend
from asterism.semantic_ids.collisions import deduplication_codes


def test_items_of_one_path_are_counted_in_order() -> None:
    paths = np.array([[1, 2], [0, 5], [1, 2], [1, 3], [1, 2], [0, 5]], dtype=np.int32)
    assert deduplication_codes(paths).tolist() == [0, 0, 1, 0, 2, 1]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(2, 4), st.integers(2, 5))
def test_every_item_ends_with_its_own_id(picks: list[int], levels: int, codes: int) -> None:
    distinct = np.random.default_rng(1).normal(size=(7, 3))
    vectors = distinct[picks]
    table, codebooks = build_semantic_ids(vectors, SemanticIdConfig(levels=levels, codes=codes), seed=0)
    assert table.levels == levels
    assert len({table.path_of(item) for item in range(len(picks))}) == len(picks)
    assert codebooks.levels == levels - 1
    touched = int((table.codes[:, -1] > 0).sum())
    assert touched == len(picks) - len(np.unique(table.codes[:, :-1], axis=0))


def test_a_large_group_grows_the_last_level() -> None:
    table, _ = build_semantic_ids(np.ones((9, 2)), SemanticIdConfig(levels=3, codes=4), seed=0)
    assert table.codebook_sizes == (4, 4, 9)
    assert table.codes[:, -1].tolist() == list(range(9))
    assert (table.codes[:, :-1] == 0).all()


def test_new_items_one_by_one_get_what_they_get_together() -> None:
    rng = np.random.default_rng(3)
    config = SemanticIdConfig(levels=3, codes=4, reassign_colliding=False)
    table, codebooks = build_semantic_ids(rng.normal(size=(40, 5)), config, seed=0)
    new = np.repeat(rng.normal(size=(6, 5)), 3, axis=0)
    together = SemanticIdRegister(table, codebooks).assign(new)
    alone, growing = [], table
    for row in new:
        codes = SemanticIdRegister(growing, codebooks).assign(row[None])
        growing = extend(growing, codes)
        alone.append(codes[0])
    assert_array_equal(together, np.stack(alone))
    assert_array_equal(growing.codes[:40], table.codes)
    assert len(growing) == 58


def test_a_new_item_takes_the_lowest_free_code_then_the_next_nearest_path() -> None:
    codebooks = Codebooks((np.array([[0.0], [10.0], [20.0]], dtype=np.float32),))
    table, _ = build_semantic_ids(np.zeros((1, 1)), SemanticIdConfig(levels=2, codes=3), seed=0)
    codes = SemanticIdRegister(table, codebooks).assign(np.full((8, 1), 4.0))
    assert codes.tolist() == [[0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]
    with pytest.raises(ModelError, match="no semantic id is free"):
        SemanticIdRegister(extend(table, codes), codebooks).assign(np.zeros((1, 1)))


def test_a_vector_of_another_width_is_refused() -> None:
    table, codebooks = build_semantic_ids(np.eye(4), SemanticIdConfig(levels=3, codes=2), seed=0)
    with pytest.raises(DataError, match="width 3, the codebooks were fitted on width 4"):
        SemanticIdRegister(table, codebooks).assign(np.zeros((1, 3)))
    assert SemanticIdRegister(table, codebooks).assign(np.zeros((0, 4))).shape == (0, 3)
