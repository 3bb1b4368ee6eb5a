"""The cheap references: product codes and SimHash, by hand and against what they promise."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.product import fit_product
from asterism.semantic_ids.simhash import fit_simhash


def relative_error(codebooks: Codebooks, vectors: NDArray[np.float64]) -> float:
    left = np.square(vectors - codebooks.reconstruct(codebooks.assign(vectors))).sum()
    return float(left / np.square(vectors - vectors.mean(axis=0)).sum())


def test_simhash_codes_are_signs_of_projections() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 16)) + 2.0
    codebooks = fit_simhash(vectors, SemanticIdConfig(method="simhash", levels=3, codes=11), seed=4)
    directions = np.linalg.qr(np.random.default_rng(4).normal(size=(16, 16)))[0].T
    signs = (vectors - vectors.mean(axis=0)) @ directions[:6].T < 0
    expected = np.stack([signs[:, :3] @ [4, 2, 1], signs[:, 3:] @ [4, 2, 1]], axis=1)  # ⌊log2 11⌋ = 3 bits a level
    assert_array_equal(codebooks.assign(vectors), expected)


def test_simhash_leaves_what_one_bit_a_gaussian_dimension_leaves() -> None:
    vectors = np.random.default_rng(1).normal(size=(4000, 12))
    codebooks = fit_simhash(vectors, SemanticIdConfig(method="simhash", levels=4, codes=16), seed=0)
    assert_allclose(relative_error(codebooks, vectors), 1 - 2 / np.pi, atol=0.01)


def test_the_rotation_finds_a_product_that_is_hidden() -> None:
    """Two independent pairs of dimensions with 8 points each, turned by a random rotation of all four."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(2, 8, 2)) * [[[3.0]], [[2.0]]]
    picks = rng.integers(0, 8, size=(2, 800))
    hidden = np.concatenate([points[0][picks[0]], points[1][picks[1]]], axis=1)
    vectors = hidden @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 5.0
    codebooks = fit_product(vectors, SemanticIdConfig(method="opq", levels=3, codes=8), seed=0)
    assert relative_error(codebooks, vectors) < 0.02


def test_levels_of_product_codes_are_orthogonal() -> None:
    vectors = np.random.default_rng(3).normal(size=(200, 6)) @ np.diag([9, 5, 3, 2, 1, 1]) - 4.0
    first, second, third = fit_product(vectors, SemanticIdConfig(method="opq", codes=8), seed=0).centroids
    first = first - vectors.mean(axis=0)
    for one, other in ((first, second), (first, third), (second, third)):
        assert_allclose(one @ other.T, 0.0, atol=1e-3)
