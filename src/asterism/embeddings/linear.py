"""Principal axes and truncated singular vectors, with signs and starts fixed so that runs repeat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

_DENSE_BELOW = 300  # smaller matrices are decomposed whole
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
        start = np.random.default_rng(seed).normal(size=min(matrix.shape))
        left, values, right = svds(matrix.astype(np.float64), k=rank, v0=start)
    order = values.argsort()[::-1][:rank]
    order = order[values[order] > _NEGLIGIBLE * max(float(values.max(initial=0.0)), 1e-12)]
    signs = _signs(left[:, order])
    return SingularVectors(_narrow(left[:, order] * signs), _narrow(values[order]), _narrow(right[order].T * signs))


def _signs(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per column the sign that makes its largest entry positive."""
    if columns.size == 0:
        return np.ones(columns.shape[1])
    largest = np.abs(columns).argmax(axis=0)
    return np.where(columns[largest, np.arange(columns.shape[1])] < 0, -1.0, 1.0)


def _narrow(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
