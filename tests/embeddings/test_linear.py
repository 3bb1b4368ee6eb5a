"""Singular vectors: equal on every run, right against the whole decomposition, and there where ARPACK gives up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from asterism.embeddings.linear import truncated_svd
from asterism.embeddings.tfidf import TfidfEncoder

SIZE = 400  # above what is decomposed whole


def restored(matrix: sp.csr_array, rank: int, seed: int) -> NDArray[np.float32]:
    found = truncated_svd(matrix, rank, seed)
    return found.left * found.values @ found.right.T


def test_texts_that_share_no_word_get_equal_vectors_on_every_fit() -> None:
    titles = [f"item_{row}" for row in range(1000)]
    fits = [TfidfEncoder.fit(titles, 64, seed=0).projection for _ in range(4)]
    assert all(np.array_equal(fits[0], one) for one in fits[1:])
    assert not np.array_equal(fits[0], TfidfEncoder.fit(titles, 64, seed=1).projection)


@pytest.mark.parametrize("shape", [(SIZE, 2 * SIZE), (2 * SIZE, SIZE), (SIZE, SIZE)])
def test_singular_vectors_are_those_of_the_whole_matrix(shape: tuple[int, int]) -> None:
    matrix = sp.random_array(shape, density=0.05, rng=np.random.default_rng(0), format="csr")
    left, values, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    found = truncated_svd(matrix, 5, seed=0)
    np.testing.assert_allclose(found.values, values[:5], rtol=1e-5)
    np.testing.assert_allclose(restored(matrix, 5, 0), left[:, :5] * values[:5] @ right[:5], atol=1e-5)


def test_where_arpack_gives_up_a_basis_is_found_all_the_same() -> None:
    """Four singular values, each 100 times: ARPACK finds no shifts from this start."""
    matrix = sp.csr_array(sp.diags_array(np.repeat([3.0, 2.0, 1.0, 0.0], 100)))
    gram = LinearOperator((SIZE, SIZE), matvec=lambda one: matrix.T @ (matrix @ one), dtype=np.float64)
    start = np.random.default_rng(1).normal(size=SIZE)
    with pytest.raises(ArpackError):
        eigsh(gram, k=106, v0=start, rng=np.random.default_rng(1))
    found = truncated_svd(matrix, 106, seed=1)
    np.testing.assert_allclose(found.values, np.repeat([3.0, 2.0], [100, 6]), rtol=1e-4)
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(106), atol=1e-5)
    np.testing.assert_allclose(found.right, found.left, atol=1e-4)
    assert np.array_equal(found.left, truncated_svd(matrix, 106, seed=1).left)


def test_a_matrix_without_weight_has_no_axes() -> None:
    found = truncated_svd(sp.csr_array((SIZE, SIZE)), 8, seed=0)
    assert (found.left.shape, found.values.shape, found.right.shape) == ((SIZE, 0), (0,), (SIZE, 0))
