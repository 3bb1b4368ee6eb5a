"""What baselines and the protocol share: the best columns of a score matrix, and which items a history holds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.data.sequences import Sequences

PADDING = -1


def top_columns(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """(rows, k) columns of the highest scores, best first; of equal scores the lower column comes first.

    A score of -inf is never picked; rows with fewer than k others end in -1.
    """
    rows, columns = scores.shape
    width = min(k, columns)
    out = np.full((rows, k), PADDING, dtype=np.int64)
    if width == 0 or rows == 0:
        return out
    # torch.topk tells the k-th score a hundred times faster than np.partition on rows that are mostly ties.
    threshold = torch.topk(torch.from_numpy(scores), width, sorted=True).values[:, -1:].numpy()
    above = scores > threshold
    tied = scores == threshold
    room = width - above.sum(axis=1, keepdims=True)
    keep = above | (tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= room))
    picked = np.nonzero(keep)[1].reshape(rows, width)
    picked_scores = np.take_along_axis(scores, picked, axis=1)
    order = np.argsort(-picked_scores, axis=1, kind="stable")
    best = np.take_along_axis(picked, order, axis=1)
    best[np.isneginf(np.take_along_axis(picked_scores, order, axis=1))] = PADDING
    out[:, :width] = best
    return out


def in_history(lists: NDArray[np.integer], histories: Sequences, catalogue_size: int) -> NDArray[np.bool_]:
    """(rows, k) True where a listed item stands in the history of its row; padding is never in a history."""
    rows = np.arange(len(histories), dtype=np.int64)
    history_keys = np.repeat(rows, histories.lengths) * catalogue_size + histories.items
    list_keys = rows[:, None] * catalogue_size + lists
    known: NDArray[np.bool_] = np.isin(list_keys, history_keys) & (lists != PADDING)
    return known


def item_counts(train: Sequences, catalogue_size: int) -> NDArray[np.int64]:
    """(items,) training events of every item of the catalogue."""
    return np.bincount(train.items, minlength=catalogue_size)
