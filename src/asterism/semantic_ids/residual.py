"""Residual k-means: each level's codebook quantises what the levels above it left over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError
from asterism.core.progress import track
from asterism.semantic_ids.kmeans import assign_codes, kmeans


@dataclass(frozen=True, slots=True)
class Codebooks:
    """The centroids of each residual level, coarse to fine; the de-duplication level has none."""

    levels: tuple[NDArray[np.float32], ...]  # each (codes ≤ the configured number, D)

    @property
    def width(self) -> int:
        """D, the width of the vectors that were quantised."""
        return int(self.levels[0].shape[1])


def fit(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Fit `config.levels - 1` codebooks to (N, D) vectors; equal input and seed give equal codebooks.

    Residual quantisation after Lee et al. 2022 (RQ-VAE, eq. 2-3) without the autoencoder:
    r_0 = x, c_l = argmin_k |r_(l-1) - e_k|, r_l = r_(l-1) - e_(c_l).
    Raises `DataError` on vectors that are not a finite, non-empty table.
    """
    residual = torch.from_numpy(check_vectors(vectors).copy())
    generator = torch.Generator().manual_seed(seed)
    levels: list[NDArray[np.float32]] = []
    for _ in track(range(config.levels - 1), "codebooks"):
        centroids = kmeans(residual, config.codes, config.iterations, generator)
        residual -= centroids[torch.from_numpy(assign_codes(residual, centroids)).long()]
        levels.append(centroids.numpy())
    return Codebooks(tuple(levels))


def assign(codebooks: Codebooks, vectors: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """(N, residual levels) nearest codes, level by level; each row's codes depend on that row alone.

    Raises `DataError` on vectors of another width than the codebooks'.
    """
    residual = torch.from_numpy(check_vectors(vectors, codebooks.width).copy())
    codes = np.empty((len(residual), len(codebooks.levels)), dtype=np.int32)
    for level, centroids in enumerate(codebooks.levels):
        codes[:, level] = assign_codes(residual, torch.from_numpy(centroids))
        residual -= torch.from_numpy(centroids[codes[:, level]])
    return codes


def reconstruct(codebooks: Codebooks, codes: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """(N, D) the sum of the centroids that the first levels of `codes` name; extra columns are ignored."""
    total = np.zeros((len(codes), codebooks.width), dtype=np.float32)
    for level, centroids in enumerate(codebooks.levels[: codes.shape[1]]):
        total += centroids[codes[:, level]]
    return total


def last_level_order(codebooks: Codebooks, vector: NDArray[np.float32], prefix: list[int]) -> NDArray[np.int64]:
    """All codes of the last residual level, nearest first, for one (D,) vector under the codes of the levels above."""
    residual = vector - reconstruct(codebooks, np.asarray([prefix], dtype=np.int32))[0]
    differences = residual.astype(np.float64) - codebooks.levels[-1]
    return np.argsort(np.square(differences).sum(axis=1), kind="stable")


def check_vectors(vectors: NDArray[np.floating[Any]], width: int | None = None) -> NDArray[np.float32]:
    """The vectors as contiguous float32; raises `DataError` unless they are (N, D), finite and not empty."""
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(f"item vectors must form a table (items, width), but their shape is {vectors.shape}")
    if width is not None and vectors.shape[1] != width:
        raise DataError(
            f"item vectors have width {vectors.shape[1]}, the codebooks were fitted on width {width}; "
            "embed the items with the embedder of the same bundle"
        )
    if width is None and len(vectors) == 0:
        raise DataError("there are no item vectors to fit codebooks on; give at least one item")
    narrow = np.ascontiguousarray(vectors, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(vectors)} item vectors hold NaN or infinity, the first at row {broken[0]}; "
            "repair or drop these items before codes are assigned"
        )
    return narrow
