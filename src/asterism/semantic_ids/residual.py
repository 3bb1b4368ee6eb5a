"""Residual k-means, plain and balanced: each level clusters what the levels above it left over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import SemanticIdConfig
from asterism.core.progress import track
from asterism.semantic_ids.balanced import balanced_kmeans
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.kmeans import assign_codes, kmeans
from asterism.semantic_ids.quantizer import check_vectors


def fit_residual_kmeans(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Fit `config.levels - 1` codebooks to (N, D) vectors; equal input and seed give equal codebooks.

    Residual quantisation after Lee et al. 2022 (RQ-VAE, eq. 2-3) without the autoencoder:
    r_0 = x, c_l = argmin_k |r_(l-1) - e_k|, r_l = r_(l-1) - e_(c_l).
    Raises `DataError` on vectors that are not a finite, non-empty table.
    """
    levels = _fit_levels(vectors, config, seed, balanced=False)
    return Codebooks(tuple(centroids.numpy() for centroids, _ in levels))


def fit_balanced_residual_kmeans(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Residual k-means whose clusters hold at most 1.2 × the mean on every level; raises as the plain one does."""
    levels = list(_fit_levels(vectors, config, seed, balanced=True))
    return Codebooks(tuple(centroids.numpy() for centroids, _ in levels), tuple(prices.numpy() for _, prices in levels))


def _fit_levels(
    vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int, *, balanced: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    residual = torch.from_numpy(check_vectors(vectors).copy())
    generator = torch.Generator().manual_seed(seed)
    for _ in track(range(config.levels - 1), "codebooks"):
        if balanced:
            centroids, prices = balanced_kmeans(residual, config.codes, config.iterations, generator)
        else:
            centroids = kmeans(residual, config.codes, config.iterations, generator)
            prices = torch.zeros(len(centroids))
        residual -= centroids[torch.from_numpy(assign_codes(residual, centroids, prices)).long()]
        yield centroids, prices
