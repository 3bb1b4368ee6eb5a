"""Codes fitted so that items keep their earlier ids: clusters start from the earlier ones, and take their names."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError
from asterism.core.progress import track
from asterism.semantic_ids.balanced import balancing_prices
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.kmeans import assign_codes, lloyd, nearest_codes
from asterism.semantic_ids.methods import fit
from asterism.semantic_ids.quantizer import Quantizer, check_vectors
from asterism.semantic_ids.relabelling import matching_names
from asterism.semantic_ids.stability import UNKNOWN, code_changes

_BALANCED = "balanced-rq-kmeans"
_SAMPLE_ROWS_PER_CODE = 128  # for the prices of balanced clusters while these move
_ROUNDS = 4  # of moving them: more leave a smaller error, and move more items
_CANDIDATES = 4  # rows for each seed that is wanted, since some may be equal


def fit_like(
    vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int, earlier: NDArray[np.int32]
) -> Quantizer:
    """Fit the configured method to (N, D) vectors so that items keep their (N, levels) earlier ids as far as may be.

    The codes of every method take the names of those that they replace; residual k-means, plain and balanced, also
    starts from the earlier clusters, where there were no more of them than `config.codes`. Tells stderr how many
    first codes change before and after renaming. Raises as `fit` does.
    """
    if earlier.shape != (len(vectors), config.levels):
        raise DataError(
            f"earlier ids of shape {earlier.shape} do not belong to {len(vectors)} items of {config.levels} codes"
        )
    if config.method in ("rq-kmeans", _BALANCED) and 0 <= int(earlier[:, :-1].max(initial=UNKNOWN)) < config.codes:
        quantizer: Quantizer = fit_residual_kmeans_from(vectors, config, earlier)
    else:
        quantizer = fit(vectors, config, seed)
    paths = quantizer.assign(vectors)
    renamed = quantizer.relabelled(matching_names(paths, earlier, quantizer.sizes))
    before, after = (code_changes(earlier[:, :-1], one) for one in (paths, renamed.assign(vectors)))
    print(
        f"semantic ids: of {after.items:,} items that had one, {before.first:.2%} have another first code "
        f"before codes take their earlier names, {after.first:.2%} after",
        file=sys.stderr,
    )
    return renamed


def fit_residual_kmeans_from(
    vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, earlier: NDArray[np.int32]
) -> Codebooks:
    """Residual k-means on (N, D) vectors whose centroids start as the means of the items of each earlier code.

    Means, not the earlier centroids: an embedder that was fitted anew may have turned all axes. A code
    that no item had starts at a row far from all of them. Raises `DataError` on broken vectors.
    """
    residual = torch.from_numpy(check_vectors(vectors).copy())
    levels, prices = [], []
    for level in track(range(config.levels - 1), "codebooks"):
        mean = residual.mean(dim=0)
        centred = residual - mean
        start = _start(centred, torch.from_numpy(earlier[:, level]).long(), config.codes)
        if config.method == _BALANCED:
            moved, added = _balanced_from(centred, start)
            prices.append(added.numpy())
        else:
            moved, added = lloyd(centred, start, config.iterations), None
        centroids = moved + mean
        levels.append(centroids.numpy())
        residual -= centroids[torch.from_numpy(assign_codes(residual, centroids, added)).long()]
    return Codebooks(tuple(levels), tuple(prices))


def _balanced_from(vectors: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Centroids moved to the means of balanced clusters a few times, and the prices that keep these balanced."""
    sample = vectors[:: max(1, len(vectors) // (_SAMPLE_ROWS_PER_CODE * len(start)))]
    centroids, prices = start, None
    for _ in range(_ROUNDS):
        prices = balancing_prices(sample, centroids, prices)
        codes = torch.from_numpy(assign_codes(vectors, centroids, prices)).long()
        centroids = _start(vectors, codes, len(start))
    return centroids, balancing_prices(vectors, centroids, prices)


def _start(vectors: Tensor, before: Tensor, codes: int) -> Tensor:
    """(≤ codes, D) the mean of the rows of each earlier code, and distinct rows far from all means for the others."""
    known = before != UNKNOWN
    counts = torch.bincount(before[known], minlength=codes)
    sums = torch.zeros((codes, vectors.shape[1]), dtype=torch.float64)
    sums.index_add_(0, before[known], vectors[known].double())
    means = (sums / counts.clamp_min(1)[:, None]).float()
    unused = (counts == 0).nonzero()[:, 0]
    if len(unused) == 0:
        return means
    distances = nearest_codes(vectors, means[counts > 0]).distances
    far = distances.topk(min(_CANDIDATES * len(unused), len(vectors))).indices
    distinct = torch.unique(vectors[far], dim=0)
    seeds = distinct[nearest_codes(distinct, means[counts > 0]).distances.argsort(descending=True)][: len(unused)]
    means[unused[: len(seeds)]] = seeds
    return means[torch.isin(torch.arange(codes), unused[len(seeds) :], invert=True)]
