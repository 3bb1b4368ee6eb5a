"""Residual k-means on a tree that is known, and on input that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError
from asterism.semantic_ids.residual import Codebooks, assign, fit, reconstruct


def tree(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """4 far clusters, each of 4 near ones, each of 30 items: vectors, top and leaf labels."""
    rng = np.random.default_rng(seed)
    top = np.repeat(np.arange(4), 120)
    leaf = np.repeat(np.arange(16), 30)
    branches = np.tile(rng.normal(size=(4, 16)) * 2, (4, 1))
    vectors = rng.normal(size=(4, 16))[top] * 10 + branches[leaf] + rng.normal(size=(480, 16)) * 0.05
    return vectors, top, leaf


@pytest.mark.parametrize("seed", range(3))
def test_the_codes_recover_a_known_tree(seed: int) -> None:
    vectors, top, leaf = tree(seed)
    codebooks = fit(vectors, SemanticIdConfig(levels=3, codes=4), seed)
    codes = assign(codebooks, vectors)
    assert adjusted_rand_score(top, codes[:, 0]) >= 0.95
    assert adjusted_rand_score(leaf, codes[:, 0] * 4 + codes[:, 1]) >= 0.95


def test_each_level_leaves_a_smaller_error() -> None:
    vectors = np.random.default_rng(0).normal(size=(600, 10))
    codebooks = fit(vectors, SemanticIdConfig(levels=5, codes=16), seed=0)
    codes = assign(codebooks, vectors)
    errors = [np.square(vectors - reconstruct(codebooks, codes[:, :depth])).mean() for depth in range(5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[4] < 0.5 * errors[0]


def test_codes_by_hand() -> None:
    coarse = np.array([[0.0, 0.0], [10.0, 0.0]], dtype=np.float32)
    fine = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    codebooks = Codebooks((coarse, fine))
    codes = assign(codebooks, np.array([[0.9, 0.2], [10.1, 0.8]]))
    assert codes.tolist() == [[0, 0], [1, 1]]
    assert_allclose(reconstruct(codebooks, codes), [[1, 0], [10, 1]])


def test_equal_seeds_give_equal_codebooks() -> None:
    vectors, _, _ = tree(0)
    first, second = (fit(vectors, SemanticIdConfig(levels=4, codes=8), seed=3) for _ in range(2))
    for one, other in zip(first.levels, second.levels, strict=True):
        assert_array_equal(one, other)


def test_constant_vectors_share_one_path() -> None:
    codebooks = fit(np.full((20, 3), 0.1), SemanticIdConfig(levels=4, codes=8), seed=0)
    assert [len(level) for level in codebooks.levels] == [1, 1, 1]
    assert_allclose(reconstruct(codebooks, np.zeros((1, 3), dtype=np.int32)), [[0.1, 0.1, 0.1]], rtol=1e-6)


def test_a_single_item_is_enough() -> None:
    codebooks = fit(np.array([[3.0, 4.0]]), SemanticIdConfig(), seed=0)
    assert assign(codebooks, np.array([[3.0, 4.0]])).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.array([[0.0], [np.nan], [np.inf]]), "2 of 3 item vectors hold NaN or infinity, the first at row 1"),
        (np.zeros(3), r"a table \(items, width\), but their shape is \(3,\)"),
        (np.zeros((3, 0)), r"their shape is \(3, 0\)"),
        (np.zeros((0, 3)), "no item vectors"),
    ],
)
def test_broken_vectors_are_named(vectors: NDArray[np.float64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(vectors, SemanticIdConfig(), seed=0)
