"""Balanced k-means: a price on each centroid keeps every cluster at most a fifth larger than the mean."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from asterism.semantic_ids.kmeans import assign_codes, chunks, kmeans, nearest_codes

LARGEST_SHARE = 1.2  # of the mean cluster size
_SAMPLE_ROWS_PER_CODE = 128  # centroids are fitted on so many rows a code; prices on all
_ROUNDS = 2  # of moving centroids to the means of balanced clusters
_PASSES = 400  # of Sinkhorn at most
_WARM_PASSES = 150  # where prices are nearly right already
_COOLING = 0.95  # of the temperature, a pass
_COLDEST = 1e-3  # temperature, as a share of the mean squared distance to the nearest centroid
_WARM = 10.0  # × the coldest: where warm passes start
_SOFT_LIMIT = 0.96  # of the limit: room for what is still soft
_TIGHTENING = 0.998  # of the soft limit, a pass at the coldest temperature
_BIDS = 100  # price rises at most after Sinkhorn
_STEP = 1e-3  # least rise of a price, as a share of the same distance


def balanced_kmeans(vectors: Tensor, codes: int, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most `codes` centroids of (N, D) rows, and the (K,) prices under which no cluster is too large.

    k-means on a sample starts; then prices are found and centroids move to the means of their balanced
    clusters, in turn. Equal rows always share a cluster, so a row that is repeated too often breaks the bound.
    """
    rows = min(len(vectors), _SAMPLE_ROWS_PER_CODE * codes)
    sample = vectors[torch.randperm(len(vectors), generator=generator)[:rows].sort().values]
    centroids = kmeans(sample, codes, iterations, generator)
    prices = torch.zeros(len(centroids))
    for turn in range(_ROUNDS):
        prices = balancing_prices(sample, centroids, prices, warm=turn > 0)
        centroids = _means(sample, centroids, prices)
    tries = (balancing_prices(vectors, centroids, prices, warm=warm) for warm in (True, False))
    return centroids, _first_within_limit(vectors, centroids, tries)


def _first_within_limit(vectors: Tensor, centroids: Tensor, tries: Iterable[Tensor]) -> Tensor:
    """The first prices that keep to the limit, or those that come nearest to it."""
    limit = size_limit(len(vectors), len(centroids))
    best, least = torch.zeros(len(centroids)), len(vectors) + 1
    for prices in tries:
        largest = int(_sizes(vectors, centroids, prices).max())
        if largest < least:
            best, least = prices, largest
        if least <= limit:
            break
    return best


def size_limit(rows: int, codes: int) -> int:
    """The most rows that one of `codes` clusters may hold: 1.2 × the mean, or the mean rounded up."""
    return max(math.ceil(rows / codes), math.floor(LARGEST_SHARE * rows / codes))


def balancing_prices(vectors: Tensor, centroids: Tensor, start: Tensor, *, warm: bool = False) -> Tensor:
    """(K,) prices under which the nearest-with-price clusters keep to `size_limit`.

    The dual of optimal transport with a capacity on each centroid: Sinkhorn's iterations (Cuturi 2013) at a falling
    temperature, a low one from the outset where `start` is `warm`. What is still overfull then bids its price up
    (Bertsekas 1988) until the rows with the smallest regret leave for a centroid that has room.
    Returns the prices with the smallest largest cluster where the bound cannot be met.
    """
    limit = size_limit(len(vectors), len(centroids))
    free = torch.zeros(len(centroids))
    best, least = free, int(_sizes(vectors, centroids, free).max())
    if least <= limit:
        return free
    scale = float(nearest_codes(vectors, centroids).distances.double().mean())
    prices = _sinkhorn_prices(vectors, centroids, start, scale, warm)
    for _ in range(_BIDS):
        codes = torch.from_numpy(assign_codes(vectors, centroids, prices)).long()
        largest = int(torch.bincount(codes).max())
        if largest < least:
            best, least = prices, largest
        if least <= limit:
            break
        prices = prices + _rises(vectors, centroids, prices, codes, limit, _STEP * scale)
    return best - best.min()


def _sizes(vectors: Tensor, centroids: Tensor, prices: Tensor) -> Tensor:
    return torch.from_numpy(np.bincount(assign_codes(vectors, centroids, prices), minlength=len(centroids)))


def _sinkhorn_prices(vectors: Tensor, centroids: Tensor, start: Tensor, scale: float, warm: bool) -> Tensor:
    limit = size_limit(len(vectors), len(centroids))
    coldest = max(_COLDEST * scale, torch.finfo(torch.float32).tiny)
    spread = float((centroids - centroids.mean(dim=0)).square().sum(dim=1).max()) + scale
    temperature = _WARM * coldest if warm else spread
    capacity = _SOFT_LIMIT * limit
    prices = best = start
    least = len(vectors) + 1
    for _ in range(_WARM_PASSES if warm else _PASSES):
        hard, soft = _soft_sizes(vectors, centroids, prices, temperature)
        if int(hard.max()) < least:
            best, least = prices, int(hard.max())
        if least <= limit:
            break
        # A centroid with room to spare is free, hence the clamp.
        prices = (prices + temperature * (soft.clamp_min(1e-12) / capacity).log()).clamp_min(0.0)
        if temperature <= coldest:
            capacity = max(capacity * _TIGHTENING, len(vectors) / len(centroids))
        temperature = max(temperature * _COOLING, coldest)
    return best


def _soft_sizes(vectors: Tensor, centroids: Tensor, prices: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(K,) rows that choose each centroid, and the rows that do so at a temperature."""
    offsets = centroids.square().sum(dim=1) + prices
    hard, soft = torch.zeros(len(centroids), dtype=torch.long), torch.zeros(len(centroids))
    for rows in chunks(len(vectors)):
        scores = torch.addmm(offsets, vectors[rows], centroids.T, alpha=-2.0)
        hard += torch.bincount(scores.argmin(dim=1), minlength=len(centroids))
        soft += torch.softmax(-scores / temperature, dim=1).sum(dim=0)
    return hard, soft


def _rises(vectors: Tensor, centroids: Tensor, prices: Tensor, codes: Tensor, limit: int, step: float) -> Tensor:
    """(K,) how far each price must rise so that at most `limit` of its rows stay; 0 where no more are there."""
    counts = torch.bincount(codes, minlength=len(centroids))
    regrets = _regrets(vectors, centroids, prices, codes, full=counts >= limit)
    order = np.lexsort((regrets.numpy(), codes.numpy()))
    ends = counts.cumsum(0)
    rises = torch.zeros(len(centroids))
    for code in (counts > limit).nonzero()[:, 0].tolist():
        start = int(ends[code] - counts[code])
        rises[code] = regrets[order[start + int(counts[code]) - limit - 1]] + step
    return rises


def _regrets(vectors: Tensor, centroids: Tensor, prices: Tensor, codes: Tensor, full: Tensor) -> Tensor:
    """(N,) what each row loses by leaving for the best centroid that has room."""
    offsets = centroids.square().sum(dim=1) + prices
    regrets = torch.empty(len(vectors))
    for rows in chunks(len(vectors)):
        scores = torch.addmm(offsets, vectors[rows], centroids.T, alpha=-2.0)
        own = scores.gather(1, codes[rows, None])[:, 0]
        regrets[rows] = (scores.masked_fill(full, math.inf).min(dim=1).values - own).clamp_min(0.0)
    return regrets


def _means(vectors: Tensor, centroids: Tensor, prices: Tensor) -> Tensor:
    codes = torch.from_numpy(assign_codes(vectors, centroids, prices)).long()
    counts = torch.bincount(codes, minlength=len(centroids))
    sums = torch.zeros(centroids.shape, dtype=torch.float64).index_add_(0, codes, vectors.double())
    return torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centroids.double()).float()
