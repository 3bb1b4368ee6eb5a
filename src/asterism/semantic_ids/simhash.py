"""SimHash: codes are the signs of random projections; nothing but a scale is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.quantizer import check_vectors


def fit_simhash(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Random orthonormal hyperplanes (Charikar 2002; Ji et al. 2012, super-bit) as ordinary codebooks.

    A level of `codes` has b = ⌊log2 codes⌋ bits, at most D. Its 2^b centroids are Σ ±s_j u_j over b orthonormal
    directions u_j, with s_j the mean absolute projection: the nearest one is the pattern of signs, the first
    direction being the highest bit. The mean of the vectors is part of the first level. Where
    all levels together need more than D directions, deeper levels hash what is left over.
    """
    checked = check_vectors(vectors).astype(np.float64)
    width = checked.shape[1]
    bits = min(config.codes.bit_length() - 1, width)
    signs = 1.0 - 2.0 * ((np.arange(2**bits)[:, None] >> np.arange(bits)[::-1]) & 1)
    rng = np.random.default_rng(seed)
    mean = checked.mean(axis=0)
    residual = checked - mean
    unused = np.empty((0, width))
    levels: list[NDArray[np.float32]] = []
    for level in range(config.levels - 1):
        if len(unused) < bits:
            unused = np.linalg.qr(rng.normal(size=(width, width)))[0].T
        directions, unused = unused[:bits], unused[bits:]
        projections = residual @ directions.T
        centroids = (signs * np.abs(projections).mean(axis=0)) @ directions
        codes = (projections < 0) @ (2 ** np.arange(bits)[::-1])
        residual -= centroids[codes]
        levels.append((centroids + mean if level == 0 else centroids).astype(np.float32))
    return Codebooks(tuple(levels))
