"""The neighbour head: what other users took beside and after the items that this user had of late."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse
from torch import Tensor

from asterism.core.errors import BundleError, ModelError
from asterism.data.sequences import Sequences
from asterism.models.policy import HistoryBatch

#: Events apart at which two items of one history still count as neighbours.
WINDOW: Final = 5
#: What a pair one event further apart counts.
DISTANCE_DECAY: Final = 0.8
#: What a pair counts for the later item as the neighbour asked from, against the earlier one.
BACKWARD: Final = 0.3
#: Added to an item's events, so that a pair of rare items seen once is not taken for a law.
SHRINKAGE: Final = 5.0
#: Neighbours kept for each item.
NEIGHBOURS: Final = 200
#: Weight of an event of the history against the next newer one.
RECENCY_DECAY: Final = 0.7

#: Dense scores, 16 MiB of them, that are held at once.
_SCORES_AT_ONCE = 1 << 22


class NeighbourHead:
    """Scores a candidate by its counted transitions from the events of a history, newer ones weighing more.

    s(i | h) = Σ_e 0.7^age(e) · T[e, i], T the decayed counts of "i at most five events after e" (before: × 0.3), over
    √(n_e + 5) √(n_i + 5). A sequential form of item-based neighbours (Sarwar et al. 2001; Ludewig and Jannach 2018):
    it remembers rare pairs that a model of small vectors blurs.
    """

    def __init__(self, transitions: sparse.csr_array) -> None:
        """`transitions` (N, N) float: row e holds what items are worth after item e."""
        self.transitions = transitions

    @classmethod
    def learn(cls, train: Sequences, items: int) -> NeighbourHead:
        """Count the transitions of training sequences over a catalogue of `items`."""
        counts = _decayed_counts(train, items)
        seen = np.bincount(train.items, minlength=items) + SHRINKAGE
        scale = sparse.diags_array(1 / np.sqrt(seen))
        return cls(_strongest(sparse.csr_array(scale @ counts @ scale)))

    def scores(self, histories: HistoryBatch, items: Tensor) -> Tensor:
        """(B, C) scores of candidates `items` (B, C) long; raises `ModelError` on an item that it does not know."""
        known = self.transitions.shape[0]
        highest = max((int(one.max()) for one in (items, histories.items) if one.numel()), default=-1)
        if highest >= known:
            raise ModelError(
                f"the neighbour head knows {known} items, but item index {highest} is asked for; "
                "learn it anew, or set decoding.neighbour_weight to 0"
            )
        asked = items.numpy()
        found = np.empty(asked.shape, dtype=np.float32)
        recent = self._recent(histories)
        step = max(1, _SCORES_AT_ONCE // known)
        for start in range(0, len(asked), step):
            rows = slice(start, start + step)
            everything = (recent[rows] @ self.transitions).toarray()
            found[rows] = np.take_along_axis(everything, asked[rows], axis=1)
        return torch.from_numpy(found)

    def _recent(self, histories: HistoryBatch) -> sparse.csr_array:
        """(B, N) the weights of each row's events."""
        mask = histories.mask.numpy()
        rows, columns = np.nonzero(mask)
        ages = mask.shape[1] - 1 - columns
        weights = (RECENCY_DECAY**ages).astype(np.float32)
        shape = (len(mask), self.transitions.shape[0])
        return sparse.coo_array((weights, (rows, histories.items.numpy()[mask])), shape=shape).tocsr()

    def save(self, file: Path) -> None:
        """Write the transitions (safetensors)."""
        one = self.transitions
        save_file(
            {
                "offsets": one.indptr.astype(np.int64),
                "neighbours": one.indices.astype(np.int32),
                "weights": one.data.astype(np.float32),
            },
            file,
        )

    @classmethod
    def load(cls, file: Path, items: int) -> NeighbourHead:
        """Read what `save` wrote for a catalogue of `items`; raises `BundleError` where it is of another."""
        try:
            found = load_file(file)
            offsets, neighbours, weights = found["offsets"], found["neighbours"], found["weights"]
        except (SafetensorError, KeyError) as error:
            raise BundleError(f"{file} holds no neighbours ({error}); train the bundle again") from error
        if len(offsets) != items + 1 or (len(neighbours) and int(neighbours.max()) >= items):
            raise BundleError(
                f"{file} holds the neighbours of {len(offsets) - 1} items, the catalogue has {items}; "
                "train the bundle again"
            )
        return cls(sparse.csr_array((weights, neighbours, offsets), shape=(items, items)))


def _decayed_counts(train: Sequences, items: int) -> sparse.csr_array:
    """(items, items) pairs within the window: [earlier, later] in full, [later, earlier] by `BACKWARD`."""
    total = sparse.csr_array((items, items), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        pair = train.pairs_apart(distance)
        worth: NDArray[np.float64] = np.full(len(pair[0]), DISTANCE_DECAY ** (distance - 1))
        pairs = sparse.coo_array((worth, pair), shape=(items, items)).tocsr()
        total = total + pairs + BACKWARD * pairs.T
    return sparse.csr_array(total)


def _strongest(matrix: sparse.csr_array) -> sparse.csr_array:
    """Each row's `NEIGHBOURS` largest entries, an item's own left out; of equal ones the lower item index."""
    cells = matrix.tocoo()
    rows, columns = cells.coords
    others = rows != columns
    rows, columns, worth = rows[others], columns[others], cells.data[others]
    order = np.lexsort((columns, -worth, rows))
    rows, columns, worth = rows[order], columns[order], worth[order]
    kept = np.arange(len(rows)) - np.searchsorted(rows, rows) < NEIGHBOURS
    values = worth[kept].astype(np.float32)
    return sparse.coo_array((values, (rows[kept], columns[kept])), shape=matrix.shape).tocsr()
