"""Residual k-means, plain and balanced: each level clusters what the levels above it left over."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import SemanticIdConfig
from asterism.core.progress import track
from asterism.semantic_ids.balanced import balanced_kmeans
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.kmeans import assign_codes, chunks, drawn_rows, kmeans
from asterism.semantic_ids.quantizer import check_vectors
from asterism.semantic_ids.refinement import refine

_PASSES = 3  # over all rows at most, where the codebooks were found on a sample


def fit_residual_kmeans(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Fit `config.levels - 1` codebooks to (N, D) vectors; equal input and seed give equal codebooks.

    Residual quantisation after Lee et al. 2022 (RQ-VAE, eq. 2-3) without the autoencoder:
    r_0 = x, c_l = argmin_k |r_(l-1) - e_k|, r_l = r_(l-1) - e_(c_l). Of many rows a sample finds the codebooks,
    and passes over all rows refine them. Raises `DataError` on vectors that are not a finite, non-empty table.
    """
    rows = torch.from_numpy(np.require(check_vectors(vectors), requirements="W"))  # torch warns of what is read-only
    generator = torch.Generator().manual_seed(seed)
    sample = drawn_rows(rows, config.codes, generator)
    residual = sample.clone()
    levels = []
    for _ in track(range(config.levels - 1), "codebooks"):
        levels.append(kmeans(residual, config.codes, config.iterations, generator))
        _leave(residual, levels[-1], None)
    if len(sample) < len(rows):
        levels = refine(rows, levels, _PASSES)
    return Codebooks(tuple(level.numpy() for level in levels))


def fit_balanced_residual_kmeans(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Residual k-means whose clusters hold at most 1.2 × the mean on every level; raises as the plain one does."""
    residual = torch.from_numpy(check_vectors(vectors).copy())
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for _ in track(range(config.levels - 1), "codebooks"):
        levels.append(balanced_kmeans(residual, config.codes, config.iterations, generator))
        _leave(residual, *levels[-1])
    return Codebooks(tuple(centroids.numpy() for centroids, _ in levels), tuple(prices.numpy() for _, prices in levels))


def _leave(residual: Tensor, centroids: Tensor, prices: Tensor | None) -> None:
    """Subtract each row's centroid in place, without a second table of that size."""
    codes = torch.from_numpy(assign_codes(residual, centroids, prices)).long()
    for rows in chunks(len(residual)):
        residual[rows] -= centroids[codes[rows]]
