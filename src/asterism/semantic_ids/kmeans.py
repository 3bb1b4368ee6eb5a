"""k-means on float32 vectors: k-means++ seeds, Lloyd iterations as matrix products, exact final assignment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK_ROWS = 2048  # a chunk and its distances stay in the cache of a core
_SAMPLE_ROWS = 65_536  # centroids are found on so many rows, or on
_SAMPLE_ROWS_PER_CODE = 256  # for each code where that is more
_SEEDING_ROWS_PER_CODE = 32  # k-means++ looks at this many sampled rows for each code
_SEEDING_CANDIDATES = 4  # greedy k-means++: the best of this many draws becomes the next seed
_RACE_ITERATIONS = 5
# Residuals of deep levels have no clusters: there a seed, being a row, lies farther from every other row than the
# mean does, and the first centroid to become a mean swallows the rest. Seeds drawn towards the mean start level.
_SEED_SCALES = (1.0, 0.3)
_ROUNDING = 1e-5  # a float32 product of centred vectors errs by less than this share of their squared norms
_EXACT_BLOCK = 1 << 22  # differences held at once while near ties are settled


class Nearest(NamedTuple):
    """Each row's nearest centroid, up to float32 rounding."""

    codes: Tensor  # (N,) long
    distances: Tensor  # (N,) squared Euclidean


def kmeans(vectors: Tensor, codes: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Fit at most `codes` centroids to (N, D) float32 vectors; fewer where there are fewer distinct vectors.

    Greedy k-means++ (Arthur & Vassilvitskii 2007) on a sample picks the seeds. Lloyd's algorithm starts from
    the seeds and from the seeds drawn towards the mean; after a few iterations the start with the smaller
    error goes on, until no row changes its centroid or `iterations` have passed. A centroid left without
    rows moves to the row that lies farthest from its own.
    """
    mean = vectors.mean(dim=0)
    centred = vectors - mean  # float32 products of centred vectors keep the digits that tell rows apart
    seeds = _seed(centred, codes, generator)
    race = min(iterations, _RACE_ITERATIONS)
    starts = [lloyd(centred, seeds * scale, race) for scale in _SEED_SCALES]
    best = min(starts, key=lambda centroids: float(nearest_codes(centred, centroids).distances.double().sum()))
    return lloyd(centred, best, iterations - race) + mean


def drawn_rows(vectors: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """As many of (N, D) rows, in their order, as it takes to find centroids; all of them where there are no more."""
    rows = max(_SAMPLE_ROWS, _SAMPLE_ROWS_PER_CODE * codes)
    if rows >= len(vectors):
        return vectors
    return vectors[torch.randperm(len(vectors), generator=generator)[:rows].sort().values]


def lloyd(vectors: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Lloyd's iterations from given (K, D) centroids, until no row changes its own or the iterations have passed."""
    previous: Tensor | None = None
    for _ in range(iterations):
        nearest = nearest_codes(vectors, centroids)
        if previous is not None and torch.equal(previous, nearest.codes):
            break
        previous = nearest.codes
        centroids = _move(vectors, centroids, nearest)
    return centroids


def assign_codes(vectors: Tensor, centroids: Tensor, prices: Tensor | None = None) -> NDArray[np.int32]:
    """(N,) the nearest centroid of each row, the lowest index where several are equally near.

    With (K,) prices, the least sum of squared distance and price. Matrix products find the nearest up to
    rounding; rows on which rounding could decide are settled in float64 row by row, so a row's code does not
    depend on the rows that it came with.
    """
    shift = centroids.mean(dim=0)
    moved = centroids - shift
    norms = moved.square().sum(dim=1)
    offsets = norms if prices is None else norms + prices
    codes = np.empty(len(vectors), dtype=np.int32)
    for rows in chunks(len(vectors)):
        chunk = vectors[rows] - shift
        scores = torch.addmm(offsets, chunk, moved.T, alpha=-2.0)
        best, picked = scores.min(dim=1)
        slack = _ROUNDING * (chunk.square().sum(dim=1) + norms.max() + best.abs())
        close = (scores <= (best + slack)[:, None]).sum(dim=1) > 1
        out = picked.numpy().astype(np.int32)
        if bool(close.any()):
            out[close.numpy()] = _settle(vectors[rows][close].numpy(), centroids.numpy(), prices)
        codes[rows] = out
    return codes


def _settle(vectors: NDArray[np.float32], centroids: NDArray[np.float32], prices: Tensor | None) -> NDArray[np.int32]:
    wide = centroids.astype(np.float64)
    added = 0.0 if prices is None else prices.double().numpy()
    step = max(1, _EXACT_BLOCK // wide.size)
    codes = np.empty(len(vectors), dtype=np.int32)
    for start in range(0, len(vectors), step):
        differences = vectors[start : start + step, None, :].astype(np.float64) - wide
        codes[start : start + step] = (np.square(differences).sum(axis=2) + added).argmin(axis=1)
    return codes


def _seed(vectors: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    rows = min(len(vectors), _SEEDING_ROWS_PER_CODE * codes)
    sample = vectors[torch.randperm(len(vectors), generator=generator)[:rows]]
    norms = sample.square().sum(dim=1)
    nothing = _ROUNDING * 0.1 * float(norms.max())
    seeds = [0]
    closest = _distances_to(sample, norms, torch.tensor([0]), nothing)[:, 0]
    while len(seeds) < min(codes, rows) and float(closest.sum()) > 0.0:
        drawn = torch.multinomial(closest, _SEEDING_CANDIDATES, replacement=True, generator=generator)
        options = torch.minimum(closest[:, None], _distances_to(sample, norms, drawn, nothing))
        best = int(options.sum(dim=0).argmin())
        seeds.append(int(drawn[best]))
        closest = options[:, best]
    return sample[seeds]


def _distances_to(sample: Tensor, norms: Tensor, picked: Tensor, nothing: float) -> Tensor:
    """(S, C) squared distances to picked rows; what rounding alone could make counts as zero."""
    distances = norms[:, None] + norms[picked] - 2.0 * (sample @ sample[picked].T)
    return torch.where(distances > nothing, distances, 0.0)


def nearest_codes(vectors: Tensor, centroids: Tensor) -> Nearest:
    """The nearest of (K, D) centroids to each of (N, D) rows, in float32 throughout."""
    norms = centroids.square().sum(dim=1)
    codes = torch.empty(len(vectors), dtype=torch.long)
    distances = torch.empty(len(vectors))
    for rows in chunks(len(vectors)):
        scores = torch.addmm(norms, vectors[rows], centroids.T, alpha=-2.0)
        best, codes[rows] = scores.min(dim=1)
        distances[rows] = (best + vectors[rows].square().sum(dim=1)).clamp_min(0.0)
    return Nearest(codes, distances)


def _move(vectors: Tensor, centroids: Tensor, nearest: Nearest) -> Tensor:
    counts = torch.bincount(nearest.codes, minlength=len(centroids))
    sums = torch.zeros(centroids.shape, dtype=torch.float64)
    for rows in chunks(len(vectors)):
        sums.index_add_(0, nearest.codes[rows], vectors[rows].double())
    moved = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centroids.double()).float()
    empty = (counts == 0).nonzero()[:, 0]
    farthest = nearest.distances.topk(min(len(empty), len(vectors))).indices
    moved[empty[: len(farthest)]] = vectors[farthest]
    return moved


def chunks(rows: int) -> Iterator[slice]:
    """Slices of all rows, each small enough that its distances to all centroids fit in memory."""
    for start in range(0, rows, _CHUNK_ROWS):
        yield slice(start, start + _CHUNK_ROWS)
