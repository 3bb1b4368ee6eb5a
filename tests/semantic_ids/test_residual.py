"""Codebooks by hand, and what only residual k-means promises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from asterism.config import SemanticIdConfig
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.residual import fit_residual_kmeans

COARSE = np.array([[0.0, 0.0], [10.0, 0.0]], dtype=np.float32)
FINE = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)


def test_codes_by_hand() -> None:
    codebooks = Codebooks((COARSE, FINE))
    vectors = np.array([[0.9, 0.2], [10.1, 0.8]])
    codes = codebooks.assign(vectors)
    assert codes.tolist() == [[0, 0], [1, 1]]
    assert_allclose(codebooks.reconstruct(codes), [[1, 0], [10, 1]])
    distances = [[0.1**2 + 0.2**2, 0.9**2 + 0.8**2], [0.9**2 + 0.8**2, 0.1**2 + 0.2**2]]
    assert_allclose(codebooks.last_level_distances(vectors, codes), distances, atol=1e-5)


def test_a_price_turns_rows_away() -> None:
    free = np.zeros(2, dtype=np.float32)
    dear = Codebooks((COARSE, FINE), (free, np.array([2.0, 0.0], dtype=np.float32)))
    vectors = np.array([[0.9, 0.2], [1.9, 0.0]])
    assert dear.assign(vectors).tolist() == [[0, 1], [0, 0]]  # 0.05 + 2 against 1.45, and 0.81 + 2 against 4.61
    assert_allclose(dear.last_level_distances(vectors, dear.assign(vectors))[1], [2.81, 4.61], rtol=1e-5)


def test_the_error_falls_with_every_level() -> None:
    vectors = np.random.default_rng(0).normal(size=(600, 10))
    codebooks = fit_residual_kmeans(vectors, SemanticIdConfig(levels=5, codes=16), seed=0)
    codes = codebooks.assign(vectors)
    errors = [np.square(vectors - codebooks.reconstruct(codes[:, :depth])).mean() for depth in range(5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[4] < 0.5 * errors[0]


def test_constant_vectors_need_one_centroid_a_level() -> None:
    codebooks = fit_residual_kmeans(np.full((20, 3), 0.1), SemanticIdConfig(levels=4, codes=8), seed=0)
    assert [len(level) for level in codebooks.centroids] == [1, 1, 1]


@pytest.mark.parametrize("prices", [np.zeros(3), np.zeros((2, 1))])
def test_prices_that_do_not_fit_are_refused(prices: np.ndarray) -> None:
    with pytest.raises(ValueError, match="codebook 0 has 2 centroids"):
        Codebooks.from_arrays({"codebook_0": COARSE, "prices_0": prices}, 1)
