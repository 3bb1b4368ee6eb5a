"""Joint refinement: the centroids of all levels move together to where the codes of all rows ask them to be."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from asterism.core.progress import track
from asterism.semantic_ids.kmeans import chunks

# A centroid moves as if as many rows as it has asked it to stay. Undamped, upper levels wander from the middles of
# their clusters, for what one level gives to another is free while the codes are held.
_DAMPING = 1.0


class Pass(NamedTuple):
    """What a pass over all rows found."""

    error: float  # total squared error of the centroids that came in
    centroids: list[Tensor]  # moved


def refine(vectors: Tensor, centroids: list[Tensor], passes: int) -> list[Tensor]:
    """Alternate greedy codes of (N, D) rows and the (K, D) centroids of all levels that these codes ask for.

    The codebook update of additive quantisation (Babenko & Lempitsky 2014, section 3), damped, with codes that stay
    greedy. Ends early where the error no longer falls; the result never has a larger one than what came in.
    """
    best, least, current = centroids, math.inf, centroids
    for _ in track(range(passes + 1), "passes over all rows"):
        done = _pass(vectors, current)
        if done.error >= least:
            break
        best, least, current = current, done.error, done.centroids
    return best


def _pass(vectors: Tensor, centroids: list[Tensor]) -> Pass:
    shift = centroids[0].mean(dim=0)  # float32 products of centred vectors keep the digits that tell rows apart
    books = [centroids[0] - shift, *centroids[1:]]
    norms = [book.square().sum(dim=1) for book in books]
    codes = [torch.empty(len(vectors), dtype=torch.long) for _ in books]
    left = [torch.zeros(book.shape, dtype=torch.float64) for book in books]
    error = 0.0
    for rows in chunks(len(vectors)):
        residual = vectors[rows] - shift
        for level, book in enumerate(books):
            codes[level][rows] = torch.addmm(norms[level], residual, book.T, alpha=-2.0).min(dim=1).indices
            residual -= book[codes[level][rows]]
        wide = residual.double()
        error += float(wide.square().sum())
        for level, sums in enumerate(left):
            sums.index_add_(0, codes[level][rows], wide)
    moves = _moves(codes, left)
    return Pass(error, [level + move for level, move in zip(centroids, moves, strict=True)])


def _moves(codes: list[Tensor], left: list[Tensor]) -> list[Tensor]:
    """The damped least squares move of each centroid, from sums over rows of what all levels left."""
    sizes = [len(sums) for sums in left]
    counts = torch.cat(
        [
            torch.cat([_together(one, other, size, width) for other, width in zip(codes, sizes, strict=True)], dim=1)
            for one, size in zip(codes, sizes, strict=True)
        ]
    )
    counts.diagonal().mul_(1.0 + _DAMPING).clamp_min_(1.0)
    return list(torch.linalg.solve(counts, torch.cat(left)).float().split(sizes))


def _together(one: Tensor, other: Tensor, size: int, width: int) -> Tensor:
    """(size, width) how many rows have each code of one level and each of another."""
    return torch.bincount(one * width + other, minlength=size * width).view(size, width).double()
