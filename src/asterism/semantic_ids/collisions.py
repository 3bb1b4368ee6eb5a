"""Items whose paths are equal: moved apart on the last level where codes are free, then told apart by a last code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.core.progress import track
from asterism.semantic_ids.quantizer import Quantizer
from asterism.semantic_ids.sinkhorn import sinkhorn_assignment


def deduplication_codes(paths: NDArray[np.int32]) -> NDArray[np.int32]:
    """(N,) each row's rank, by index, among the rows with the same path."""
    group = _groups(paths)
    order = group.argsort(kind="stable")
    counts = np.bincount(group)
    starts = np.cumsum(counts) - counts
    codes = np.empty(len(paths), dtype=np.int32)
    codes[order] = np.arange(len(paths)) - np.repeat(starts, counts)
    return codes


def reassign_colliding(
    quantizer: Quantizer, vectors: NDArray[np.floating[Any]], paths: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(N, levels) paths of which as few as possible are equal, by moving as few items as possible.

    Of the items on one path one stays; the others go to codes of the last level that are free under the same
    prefix, so that the distances add up to the least (Sinkhorn; LC-Rec, Zheng et al. 2024, eq. 4-5, re-solved inside
    each prefix alone). Where a prefix has fewer free codes than items too many, the rest stay.
    """
    separated = paths.copy()
    prefixes = _groups(paths[:, :-1]) if paths.shape[1] > 1 else np.zeros(len(paths), dtype=np.int64)
    whole = _groups(paths)
    colliding = np.bincount(whole)[whole] > 1
    crowded = np.flatnonzero(np.bincount(prefixes, weights=colliding) > 0)
    order = prefixes.argsort(kind="stable")
    bounds = np.searchsorted(prefixes[order], np.stack([crowded, crowded + 1]))
    for start, end in track(list(zip(*bounds, strict=True)), "collisions"):
        members = order[start:end]
        rows = members[colliding[members]]
        distances = quantizer.last_level_distances(vectors[rows], paths[rows])
        separated[rows, -1] = _separate(distances, paths[rows, -1], taken=paths[members, -1])
    return separated


def _separate(
    distances: NDArray[np.float64], own: NDArray[np.int32], taken: NDArray[np.int32]
) -> NDArray[np.integer[Any]]:
    """(n,) last codes of the colliding rows of one prefix, given (n, K) distances."""
    places = np.unique(own)
    too_many = len(own) - len(places)
    free = _candidates(distances, taken, too_many)
    columns = np.concatenate([places, free])
    costs = distances[:, columns]
    # A row may keep its own place or take a free code, never another row's place.
    costs[:, : len(places)] = np.where(own[:, None] == places, costs[:, : len(places)], math.inf)
    stays = max(0, too_many - len(free))
    at_home = np.repeat(distances[np.arange(len(own)), own][:, None], stays, axis=1)
    idle = np.zeros((max(0, len(free) - too_many), costs.shape[1] + stays))
    idle[:, : len(places)] = math.inf  # a place is never left empty
    square = np.concatenate([np.concatenate([costs, at_home], axis=1), idle])
    picked = sinkhorn_assignment(torch.from_numpy(square)).numpy()[: len(own)]
    return np.where(picked < len(columns), columns[np.minimum(picked, len(columns) - 1)], own)


def _candidates(distances: NDArray[np.float64], taken: NDArray[np.int32], too_many: int) -> NDArray[np.int64]:
    """Free codes that a best separation can use: with m rows to move, the m nearest free codes of each row."""
    usable = np.flatnonzero(np.isfinite(distances).all(axis=0))
    free = np.setdiff1d(usable, taken)
    if len(free) <= too_many:
        return free
    nearest = np.argpartition(distances[:, free], too_many - 1, axis=1)[:, :too_many]
    return free[np.unique(nearest)]


def _groups(paths: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.asarray(np.unique(paths, axis=0, return_inverse=True)[1]).reshape(-1)
