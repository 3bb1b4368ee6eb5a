"""The best of many scores, with ties settled the same way whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError
from asterism.decoding.trie_layout import Indices

#: Keys (n,) of candidates given by their rows (n,) and positions (n,); of equal scores the lower key wins.
TieKeys = Callable[[Indices, Indices], Indices]
Scores = NDArray[np.float32]


def by_position(rows: Indices, positions: Indices) -> Indices:
    """Of equal scores the one that stands first wins."""
    return positions


def no_number(row: int) -> ModelError:
    """A row's scores cannot be put in order."""
    return ModelError(f"the policy's score of row {row} is not a number; its training diverged or its input is bad")


def select_top(scores: Tensor, count: int, tie_keys: TieKeys) -> tuple[Scores, Indices]:
    """The best min(count, C) of float32 scores (B, C), best first: values and positions.

    Scores of -inf come last, in any order. Raises `ModelError` on NaN.
    """
    width = scores.shape[1]
    kept = min(count, width)
    top = torch.topk(scores, min(kept + 1, width), dim=1)  # one more shows whether a tie straddles the edge
    found, places = top.values.numpy(), top.indices.numpy()
    if np.isnan(found[:, :1]).any():  # topk puts NaN first
        row = int(np.flatnonzero(np.isnan(found[:, 0]))[0])
        raise no_number(row)
    values, positions = found[:, :kept].copy(), places[:, :kept].copy()
    if width > kept:
        straddled = np.flatnonzero((found[:, kept - 1] == found[:, kept]) & np.isfinite(found[:, kept]))
        if len(straddled):
            _settle_edge(scores, straddled, (values, positions), tie_keys)
    _order_ties(values, positions, tie_keys)
    return values, positions


def _settle_edge(scores: Tensor, rows: Indices, best: tuple[Scores, Indices], tie_keys: TieKeys) -> None:
    """Give the last places of the given rows to the lowest keys among the candidates that tie for them."""
    values, positions = best
    edge = values[rows, -1]
    tied_rows, tied_positions = np.nonzero(scores.numpy()[rows] == edge[:, None])
    order = np.lexsort((tie_keys(rows[tied_rows], tied_positions), tied_rows))
    tied_rows, tied_positions = tied_rows[order], tied_positions[order]
    better = (values[rows] > edge[:, None]).sum(axis=1)
    rank = np.arange(len(tied_rows)) - np.searchsorted(tied_rows, tied_rows)
    place = better[tied_rows] + rank
    fits = place < values.shape[1]
    positions[rows[tied_rows[fits]], place[fits]] = tied_positions[fits]


def _order_ties(values: Scores, positions: Indices, tie_keys: TieKeys) -> None:
    """Sort runs of equal values by key, in place."""
    equal = values[:, 1:] == values[:, :-1]
    if not equal.any():
        return
    equal &= np.isfinite(values[:, 1:])
    rows = np.flatnonzero(equal.any(axis=1))
    if len(rows) == 0:
        return
    width = values.shape[1]
    keys = tie_keys(np.repeat(rows, width), positions[rows].ravel()).reshape(len(rows), width)
    order = np.lexsort((keys, -values[rows]), axis=-1)
    positions[rows] = np.take_along_axis(positions[rows], order, axis=1)
