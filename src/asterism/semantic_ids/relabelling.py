"""Codes fitted anew take the names of those that they replace, so that as many items as possible keep their ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asterism.semantic_ids.register import TakenCodes, path_keys
from asterism.semantic_ids.stability import UNKNOWN


def matching_names(
    paths: NDArray[np.int32], earlier: NDArray[np.int32], sizes: Sequence[int]
) -> tuple[NDArray[np.int64], ...]:
    """For each level the (K,) new names of its codes, a permutation under which most (N, levels) paths stay.

    Level by level the matching of greatest overlap between new codes and (N, > levels) earlier ids. Items whose
    codes above agree count first, since only theirs can keep a whole prefix; the others decide where those do not.
    """
    from scipy.optimize import linear_sum_assignment  # a sixth of a second, not for those who only read ids

    agreeing = earlier[:, 0] != UNKNOWN
    known = agreeing.copy()
    names = []
    for level, size in enumerate(sizes):
        before = earlier[:, level]
        counted = known & (before < size)
        pairs = paths[counted, level].astype(np.int64) * size + before[counted]
        weights = np.where(agreeing[counted], len(paths) + 1.0, 1.0)
        overlap = np.bincount(pairs, weights, minlength=size * size).reshape(size, size)
        names.append(np.asarray(linear_sum_assignment(overlap, maximize=True)[1], dtype=np.int64))
        agreeing &= names[-1][paths[:, level]] == before
    return tuple(names)


def matching_deduplication(paths: NDArray[np.int32], earlier: NDArray[np.int32]) -> NDArray[np.int32]:
    """(N,) de-duplication codes: an item that keeps its path keeps its code, the others take the lowest free ones."""
    kept = (paths == earlier[:, :-1]).all(axis=1)
    taken = TakenCodes(earlier[kept])
    codes = earlier[:, -1].copy()
    movers = np.flatnonzero(~kept)
    for item, path in zip(movers.tolist(), path_keys(paths[movers]), strict=True):
        codes[item] = taken.take_lowest(path)
    return codes
