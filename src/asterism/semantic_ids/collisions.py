"""Items whose paths are equal: moved apart on the last level where codes are free, then told apart by a last code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.core.progress import track
from asterism.core.semantic_id import path_groups
from asterism.semantic_ids.quantizer import Quantizer

_BLOCK_ROWS = 8192  # colliding rows whose distances are held at once, give or take a prefix


def deduplication_codes(paths: NDArray[np.int32]) -> NDArray[np.int32]:
    """(N,) each row's rank, by index, among the rows with the same path."""
    group = path_groups(paths)
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
    prefix, so that the distances add up to the least (LC-Rec, Zheng et al. 2024, eq. 4-5, inside each
    prefix alone and solved exactly). Where a prefix has fewer free codes than items too many, the rest stay.
    """
    separated = paths.copy()
    prefixes, whole = path_groups(paths[:, :-1]), path_groups(paths)
    colliding = np.bincount(whole)[whole] > 1
    order = prefixes.argsort(kind="stable")
    members = np.split(order, np.bincount(prefixes).cumsum()[:-1])
    for block in track(_blocks(prefixes[colliding]), "collisions"):
        crowds = [members[prefix][colliding[members[prefix]]] for prefix in block]
        rows = np.concatenate(crowds)
        distances = quantizer.last_level_distances(vectors[rows], paths[rows])
        parts = np.split(distances, np.cumsum([len(crowd) for crowd in crowds])[:-1])
        for prefix, crowd, near in zip(block, crowds, parts, strict=True):
            separated[crowd, -1] = _separate(near, paths[crowd, -1], taken=paths[members[prefix], -1])
    return separated


def _blocks(prefixes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The prefixes of all colliding rows, in runs that have about `_BLOCK_ROWS` such rows each."""
    crowded, counts = np.unique(prefixes, return_counts=True)
    numbers = counts.cumsum() // _BLOCK_ROWS
    return np.split(crowded, np.flatnonzero(np.diff(numbers)) + 1) if len(crowded) else []


def _separate(
    distances: NDArray[np.float64], own: NDArray[np.int32], taken: NDArray[np.int32]
) -> NDArray[np.integer[Any]]:
    """(n,) last codes of the colliding rows of one prefix, given (n, K) distances and the codes of all its rows."""
    from scipy.optimize import linear_sum_assignment  # a sixth of a second, not for those who only read ids

    places = np.unique(own)
    free = np.setdiff1d(np.flatnonzero(np.isfinite(distances).all(axis=0)), taken)
    columns = np.concatenate([places, free])
    added = distances[:, columns] - distances[np.arange(len(own)), own][:, None]
    # A row may keep its own place or take a free code, never another row's place. To come home must always
    # pay, so that no place is left empty.
    home = -2.0 * float(np.abs(added).max()) or -1.0
    added[:, : len(places)] = np.where(own[:, None] == places, home, math.inf)
    # Where codes run out, every column picks a row, and the rows that none picks stay on the path that they share.
    rows, picked = linear_sum_assignment(added)
    codes = own.copy()
    codes[rows] = columns[picked]
    return codes
