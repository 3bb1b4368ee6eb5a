"""Balanced k-means: a price on each centroid keeps every cluster at most a fifth larger than the mean."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.semantic_ids.kmeans import assign_codes, chunks, drawn_rows, kmeans, nearest_codes

LARGEST_SHARE = 1.2  # of the mean cluster size
_ROUNDS = 4  # of moving centroids to the means of balanced clusters
_PASSES = 100  # of price changes at most
_ROOM = 0.97  # of the limit: what prices aim at
_FIRST_STEP = 0.02  # of a price, as a share of the mean squared distance to the nearest centroid
_LEAST_STEP, _LARGEST_STEP = 1e-4, 1.0  # likewise
_FASTER, _SLOWER = 1.2, 0.5  # a step changes by, as its centroid stays on one side of its aim or crosses it
_ANNEALED_ROWS_PER_CODE = 64  # are enough where prices are found from nothing
_COOLING = 0.95  # of the temperature, a pass
_COLDEST = 0.05  # temperature, likewise
_BIDS = 30  # price rises at most after these passes
_BID = 1e-3  # least rise of a price, as a share of the same distance


def balanced_kmeans(vectors: Tensor, codes: int, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most `codes` centroids of (N, D) rows, and the (K,) prices under which no cluster is too large.

    k-means starts; then prices are found and centroids move to the means of their balanced clusters, in turn, on a
    sample where there are many rows; at last prices are found on all. Equal rows always share a cluster, so a row
    that is repeated too often breaks the bound.
    """
    sample = drawn_rows(vectors, codes, generator)
    centroids = kmeans(sample, codes, iterations, generator)
    prices = None
    for _ in range(_ROUNDS):
        prices = balancing_prices(sample, centroids, prices)
        centroids = _means(sample, centroids, prices)
    return centroids, balancing_prices(vectors, centroids, prices)


def size_limit(rows: int, codes: int) -> int:
    """The most rows that one of `codes` clusters may hold: 1.2 × the mean, or the mean rounded up."""
    return max(math.ceil(rows / codes), math.floor(LARGEST_SHARE * rows / codes))


def balancing_prices(vectors: Tensor, centroids: Tensor, start: Tensor | None = None) -> Tensor:
    """(K,) prices under which the nearest-with-price clusters keep to `size_limit`.

    The dual of optimal transport with a capacity on each centroid, whose gradient is how far each cluster is above its
    capacity: prices climb it by steps of their own (Riedmiller & Braun 1993), from `start`, or where there is none or
    it misses the bound, from where Sinkhorn's iterations at a falling temperature (Cuturi 2013) end. What is still
    overfull then bids its price up (Bertsekas 1988) until the rows with the smallest regret leave for a
    centroid that has room. Rows that are equal to more rows than a cluster may hold are left out of account, since no
    prices can part them. Returns the prices with the smallest largest cluster where the bound cannot be met.
    """
    limit = size_limit(len(vectors), len(centroids))
    best = torch.zeros(len(centroids))
    vectors = _without_crowds(vectors, limit)
    if len(vectors) <= limit:
        return best
    least = _largest(assign_codes(vectors, centroids, best))
    if least <= limit:
        return best
    costs, unit = _relative_costs(vectors, centroids)
    for begin in (start, None) if start is not None else (None,):
        prices = unit * _climb(costs, _anneal(costs) if begin is None else begin / unit, limit)
        for _ in range(_BIDS):
            codes = assign_codes(vectors, centroids, prices)
            if _largest(codes) < least:
                best, least = prices, _largest(codes)
            if least <= limit:
                return best - best.min()
            prices = prices + _rises(vectors, centroids, prices, torch.from_numpy(codes).long(), limit, _BID * unit)
    return best - best.min()


def _without_crowds(vectors: Tensor, limit: int) -> Tensor:
    """The rows without those of which more than `limit` are equal."""
    _, group, counts = torch.unique(_row_keys(vectors), return_inverse=True, return_counts=True)
    crowded = counts > limit
    return vectors[~crowded[group]] if bool(crowded.any()) else vectors


def _row_keys(vectors: Tensor) -> Tensor:
    """(N,) 64-bit sums over each row's bits, odd multiples of them: equal rows have equal ones."""
    factors = np.random.default_rng(0).integers(-(2**62), 2**62, size=vectors.shape[1]) * 2 + 1
    keys = torch.empty(len(vectors), dtype=torch.long)
    for rows in chunks(len(vectors)):
        bits = (vectors[rows] + 0.0).contiguous().view(torch.int32)  # minus zero equals zero
        keys[rows] = (bits.long() * torch.from_numpy(factors)).sum(dim=1)
    return keys


def _largest(codes: NDArray[np.int32]) -> int:
    return int(np.bincount(codes).max())


def _relative_costs(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, float]:
    """(N, K) half-precision squared distances less each row's least one, and the mean of these, their unit.

    Kept between passes. Where a choice is close the number is small, so half precision tells it apart.
    """
    shift = centroids.mean(dim=0)
    moved = centroids - shift
    norms = moved.square().sum(dim=1)
    costs = torch.empty((len(vectors), len(centroids)), dtype=torch.half)
    unit = max(float(nearest_codes(vectors, centroids).distances.double().mean()), torch.finfo(torch.float32).tiny)
    for rows in chunks(len(vectors)):
        scores = torch.addmm(norms, vectors[rows] - shift, moved.T, alpha=-2.0)
        costs[rows] = ((scores - scores.amin(dim=1, keepdim=True)) / unit).half()
    return costs, unit


def _climb(costs: Tensor, start: Tensor, limit: int) -> Tensor:
    """The first prices on the way that keep to the limit, else the best ones."""
    aim = max(_ROOM * limit, len(costs) / costs.shape[1])
    steps = torch.full_like(start, _FIRST_STEP)
    side = torch.zeros_like(start)
    prices = best = start
    least = len(costs) + 1
    for _ in range(_PASSES):
        sizes = _sizes(costs, prices)
        if int(sizes.max()) < least:
            best, least = prices, int(sizes.max())
        if least <= limit:
            break
        above = (sizes.clamp_min(0.5) / aim).log().clamp(-1.0, 1.0)
        steps = torch.where(above.sign() == side, steps * _FASTER, steps * _SLOWER).clamp(_LEAST_STEP, _LARGEST_STEP)
        side = above.sign()
        prices = (prices + steps * above).clamp_min(0.0)
    return best


def _anneal(costs: Tensor) -> Tensor:
    """Prices under which the soft sizes of some rows keep near the limit, from a temperature above all costs down."""
    codes = costs.shape[1]
    some = costs[:: max(1, len(costs) // (_ANNEALED_ROWS_PER_CODE * codes))].float()
    aim = max(_ROOM * size_limit(len(some), codes), len(some) / codes)
    prices = torch.zeros(codes)
    temperature = float(some.nan_to_num(posinf=0.0).max())
    while temperature > _COLDEST:
        soft = torch.zeros(codes)
        for rows in chunks(len(some)):
            soft += torch.softmax(-(some[rows] + prices) / temperature, dim=1).sum(dim=0)
        # A centroid with room to spare is free, hence the clamp.
        prices = (prices + temperature * (soft.clamp_min(1e-12) / aim).log()).clamp_min(0.0)
        temperature *= _COOLING
    return prices


def _sizes(costs: Tensor, prices: Tensor) -> Tensor:
    total = np.zeros(len(prices), dtype=np.int64)
    for rows in chunks(len(costs)):
        total += np.bincount((costs[rows].float() + prices).numpy().argmin(axis=1), minlength=len(total))
    return torch.from_numpy(total)


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
    sums = torch.zeros(centroids.shape, dtype=torch.float64)
    for rows in chunks(len(vectors)):
        sums.index_add_(0, codes[rows], vectors[rows].double())
    return torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centroids.double()).float()
