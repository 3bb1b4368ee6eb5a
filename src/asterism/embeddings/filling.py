"""Missing parts of an item filled in from the items nearest in the parts that it has."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.progress import track

NEIGHBOURS: Final = 8
_TWIN: Final = 1e-4  # squared distance, relative to the largest possible, below which an item counts as a twin
_CHUNK_ROWS: Final = 1024


class References(NamedTuple):
    """Items that have more than one part, to fill in from."""

    rows: NDArray[np.float16]  # (R, Σr)
    known: NDArray[np.bool_]  # (R, parts)


def fill_missing(
    joined: NDArray[np.float32],
    present: NDArray[np.bool_],
    references: References,
    part_of: NDArray[np.int64],
) -> None:
    """Fill, in place, each missing block from the nearest references that have it and all parts of the item."""
    for pattern in np.unique(present, axis=0):
        if not pattern.any():
            continue
        rows = np.flatnonzero((present == pattern).all(axis=1))
        for missing in np.flatnonzero(~pattern):
            filled = _filled(joined[rows], pattern, int(missing), references, part_of, None)
            if filled is not None:
                joined[np.ix_(rows, part_of == missing)] = filled


def without_part(
    joined: NDArray[np.float32],
    present: NDArray[np.bool_],
    lost: int,
    references: References,
    part_of: NDArray[np.int64],
    own: NDArray[np.int64],
) -> NDArray[np.float32]:
    """(N, r) the block `lost` of each item as it would be filled in if the item lost that part.

    `own` (N,) is the item's own row among the references, which does not count, or -1. An item that has
    nothing else, or lacks the part, keeps its block.
    """
    block = joined[:, part_of == lost].copy()
    for pattern in np.unique(present, axis=0):
        rest = pattern.copy()
        rest[lost] = False
        if not (pattern[lost] and rest.any()):
            continue
        rows = np.flatnonzero((present == pattern).all(axis=1))
        filled = _filled(joined[rows], rest, lost, references, part_of, own[rows])
        if filled is not None:
            block[rows] = filled
    return block


def _filled(
    rows: NDArray[np.float32],
    has: NDArray[np.bool_],
    missing: int,
    references: References,
    part_of: NDArray[np.int64],
    own: NDArray[np.int64] | None,
) -> NDArray[np.float32] | None:
    """(n, r) the block `missing` of rows that have the parts `has`; None where no reference can tell."""
    usable = references.known[:, missing] & references.known[:, has].all(axis=1)
    if usable.sum() <= (0 if own is None else NEIGHBOURS):
        return None
    seen = has[part_of]
    stored = references.rows[usable].astype(np.float32)
    near, block = stored[:, seen], stored[:, part_of == missing]
    place = np.append(np.where(usable, np.cumsum(usable) - 1, -1), -1)  # the last one is what -1 finds
    itself = np.full(len(rows), -1) if own is None else place[own]
    chunks = [slice(start, start + _CHUNK_ROWS) for start in range(0, len(rows), _CHUNK_ROWS)]
    filled = [
        _mean_of_nearest(rows[chunk][:, seen], near, block, itself[chunk])
        for chunk in track(chunks, "filling in missing parts")
    ]
    return np.concatenate(filled)


def _mean_of_nearest(
    rows: NDArray[np.float32],
    near: NDArray[np.float32],
    block: NDArray[np.float32],
    own: NDArray[np.int64],
) -> NDArray[np.float32]:
    norms = np.square(near).sum(axis=1)
    distances = np.square(rows).sum(axis=1)[:, None] + norms - 2.0 * rows @ near.T
    held = np.flatnonzero(own >= 0)
    distances[held, own[held]] = np.inf
    count = min(NEIGHBOURS, len(near))
    picked = np.argpartition(distances, count - 1, axis=1)[:, :count]
    closest = np.maximum(np.take_along_axis(distances, picked, axis=1), 0.0)
    weights = 1.0 / (closest + _TWIN * max(float(norms.max()), 1e-12))
    weights /= weights.sum(axis=1, keepdims=True)
    filled: NDArray[np.float32] = np.einsum("nk,nkr->nr", weights, block[picked])
    return filled
