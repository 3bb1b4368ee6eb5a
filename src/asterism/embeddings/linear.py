"""Principal axes and truncated singular vectors, with signs and starts fixed so that runs repeat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

_DENSE_BELOW = 300  # smaller matrices are decomposed whole
_ITERATIONS, _SPARE_AXES = 30, 10  # of the subspace iteration
_NEGLIGIBLE = 1e-6  # of the largest: axes that carry less are rounding, not data


class Axes(NamedTuple):
    """Principal axes of a table of vectors, the strongest first."""

    mean: NDArray[np.float32]  # (d,)
    directions: NDArray[np.float32]  # (d, r) orthonormal columns
    variances: NDArray[np.float32]  # (r,)


class SingularVectors(NamedTuple):
    """The strongest singular triplets of a matrix, the strongest first."""

    left: NDArray[np.float32]  # (n, r)
    values: NDArray[np.float32]  # (r,)
    right: NDArray[np.float32]  # (m, r)


def principal_axes(vectors: NDArray[np.float32], rank: int) -> Axes:
    """At most `rank` principal axes of (N, d) vectors; axes without variance are left out."""
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - mean
    covariance = (centred.T @ centred).astype(np.float64) / max(1, len(vectors))
    variances, directions = np.linalg.eigh(covariance)
    strongest = variances.argsort()[::-1][:rank]
    strongest = strongest[variances[strongest] > _NEGLIGIBLE * max(float(variances.max(initial=0.0)), 1e-12)]
    fixed = directions[:, strongest] * _signs(directions[:, strongest])
    return Axes(mean, _narrow(fixed), _narrow(variances[strongest]))


def truncated_svd(matrix: sp.csr_array, rank: int, seed: int) -> SingularVectors:
    """At most `rank` singular triplets of a sparse matrix; those without weight are left out."""
    if min(matrix.shape) <= max(_DENSE_BELOW, rank):
        left, values, right = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    else:
        left, values, right = _sparse_svd(sp.csr_array(matrix, dtype=np.float64), rank, seed)
    order = values.argsort()[::-1][:rank]
    order = order[values[order] > _NEGLIGIBLE * max(float(values.max(initial=0.0)), 1e-12)]
    signs = _signs(left[:, order])
    return SingularVectors(_narrow(left[:, order] * signs), _narrow(values[order]), _narrow(right[order].T * signs))


def _sparse_svd(
    matrix: sp.csr_array, rank: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Left vectors, values, right vectors as rows, from the strongest subspace of the smaller side."""
    if matrix.shape[0] < matrix.shape[1]:
        left, values, right = _sparse_svd(sp.csr_array(matrix.T), rank, seed)
        return right.T, values, left.T
    axes, _ = np.linalg.qr(_strongest_subspace(matrix, rank, seed))
    left, values, turned = np.linalg.svd(matrix @ axes, full_matrices=False)
    return left, values, turned @ axes.T


def _strongest_subspace(matrix: sp.csr_array, rank: int, seed: int) -> NDArray[np.float64]:
    """(m, r) columns that span the strongest right singular vectors of an (n, m) matrix.

    ARPACK, whose restarts draw from `seed` too. It gives up where many singular values are equal; there a subspace
    iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) finds as good a basis.
    """
    size = matrix.shape[1]
    start = np.random.default_rng(seed).normal(size=size)
    gram = LinearOperator((size, size), matvec=lambda one: matrix.T @ (matrix @ one), dtype=np.float64)
    try:
        return np.asarray(eigsh(gram, k=rank, v0=start, rng=np.random.default_rng(seed))[1])
    except ArpackError:
        return _iterated_subspace(matrix, rank, seed)


def _iterated_subspace(matrix: sp.csr_array, rank: int, seed: int) -> NDArray[np.float64]:
    size = matrix.shape[1]
    axes = np.random.default_rng(seed).normal(size=(size, min(size, rank + _SPARE_AXES)))
    for _ in range(_ITERATIONS):
        axes, _ = np.linalg.qr(matrix.T @ (matrix @ axes))
    return axes


def _signs(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per column the sign that makes its largest entry positive."""
    if columns.size == 0:
        return np.ones(columns.shape[1])
    largest = np.abs(columns).argmax(axis=0)
    return np.where(columns[largest, np.arange(columns.shape[1])] < 0, -1.0, 1.0)


def _narrow(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
