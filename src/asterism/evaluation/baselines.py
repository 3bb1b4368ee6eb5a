"""Recommenders that need no training run and that a model has to beat: popularity, Markov chain, item neighbours.

All three are one linear form. A history is a weight per item, newest 1, one older `recency_decay`, and so on; its
scores are those weights times an item-to-item matrix. Of equal scores, zero included, the more popular item
comes first, so every list is filled up by popularity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from asterism.core.progress import track
from asterism.data.sequences import Sequences
from asterism.data.split import Split
from asterism.evaluation.ranking import PADDING, item_counts, top_columns

#: Defaults of item_knn, chosen by NDCG@10 on the validation cases of Amazon Beauty 2014.
NEIGHBOURS: Final = 100
RECENCY_DECAY: Final = 0.6
SHRINKAGE: Final = 40.0

_CELLS_PER_BATCH = 1 << 22
_ITEMS_PER_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class LinearBaseline:
    """Scores = recency-weighted history times an item-to-item matrix, ties by popularity."""

    name: str
    popular: NDArray[np.int64]  # (items,) the catalogue, most popular first, then by index
    item_to_item: sparse.csr_array  # (items, items); row: an item of the history; column j: the item `popular[j]`
    recency_decay: float  # weight of an event = decay ** (number of newer events); 0 keeps the newest only

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> NDArray[np.int64]:
        """(rows, k) items, best first, padded by -1 where the catalogue has no more."""
        rows_per_batch = max(1, _CELLS_PER_BATCH // max(1, len(self.popular)))
        out = np.full((len(histories), k), PADDING, dtype=np.int64)
        for start in range(0, len(histories), rows_per_batch):
            rows = np.arange(start, min(start + rows_per_batch, len(histories)))
            out[rows] = self._recommend_batch(histories.take(rows), k, exclude_history)
        return out

    def _recommend_batch(self, histories: Sequences, k: int, exclude_history: bool) -> NDArray[np.int64]:
        scores = np.asarray((self._weights(histories) @ self.item_to_item).toarray())
        if exclude_history:
            place = np.empty(len(self.popular), dtype=np.int64)
            place[self.popular] = np.arange(len(self.popular))
            rows = np.repeat(np.arange(len(histories)), histories.lengths)
            scores[rows, place[histories.items]] = -np.inf
        columns = top_columns(scores, k)
        return np.where(columns == PADDING, PADDING, self.popular[columns])

    def _weights(self, histories: Sequences) -> sparse.csr_array:
        newer = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(histories.events)
        weights = (self.recency_decay**newer).astype(np.float32)
        shape = (len(histories), len(self.popular))
        return sparse.csr_array((weights, histories.items, histories.offsets), shape=shape)


def popularity(train: Sequences, catalogue_size: int) -> LinearBaseline:
    """Everyone gets the items with the most training events."""
    nothing = sparse.csr_array((catalogue_size, catalogue_size), dtype=np.float32)
    return LinearBaseline("popularity", _by_popularity(train, catalogue_size), nothing, recency_decay=0.0)


def markov(train: Sequences, catalogue_size: int) -> LinearBaseline:
    """A first-order Markov chain: what most often came directly after the newest item."""
    pairs = train.pairs_apart(1)
    shape = (catalogue_size, catalogue_size)
    transitions = sparse.coo_array((np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=shape).tocsr()
    popular = _by_popularity(train, catalogue_size)
    return LinearBaseline("markov", popular, transitions[:, popular], recency_decay=0.0)


def item_knn(
    train: Sequences,
    catalogue_size: int,
    neighbours: int = NEIGHBOURS,
    recency_decay: float = RECENCY_DECAY,
    shrinkage: float = SHRINKAGE,
) -> LinearBaseline:
    """Items that the users of the history's items also took, by shrunk cosine over users.

    sim(i, j) = |U_i ∩ U_j| / (√|U_i| √|U_j| + shrinkage), U_i the users with i in their training history; each item
    keeps its `neighbours` most similar others. Sarwar et al., "Item-based collaborative filtering", 2001.
    """
    similar = _cosine_neighbours(train, catalogue_size, neighbours, shrinkage)
    popular = _by_popularity(train, catalogue_size)
    return LinearBaseline("item_knn", popular, similar[:, popular], recency_decay)


def default_baselines(split: Split) -> tuple[LinearBaseline, ...]:
    """The baselines that every evaluation stands beside, learned from the training part alone."""
    catalogue_size = len(split.items)
    return (
        popularity(split.train, catalogue_size),
        markov(split.train, catalogue_size),
        item_knn(split.train, catalogue_size),
    )


def _by_popularity(train: Sequences, catalogue_size: int) -> NDArray[np.int64]:
    return np.argsort(-item_counts(train, catalogue_size), kind="stable")


def _cosine_neighbours(train: Sequences, catalogue_size: int, neighbours: int, shrinkage: float) -> sparse.csr_array:
    users = np.repeat(np.arange(len(train)), train.lengths)
    took = sparse.coo_array(
        (np.ones(train.events, dtype=np.float32), (train.items, users)), shape=(catalogue_size, len(train))
    ).tocsr()
    took.data[:] = 1.0
    by_user = took.T.tocsr()
    norms = np.sqrt(np.diff(took.indptr)).astype(np.float32)
    blocks = [
        _neighbours_of_block(took[start : start + _ITEMS_PER_BLOCK] @ by_user, start, norms, neighbours, shrinkage)
        for start in track(range(0, catalogue_size, _ITEMS_PER_BLOCK), "item neighbours")
    ]
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def _neighbours_of_block(
    overlaps: sparse.csr_array, first_item: int, norms: NDArray[np.float32], neighbours: int, shrinkage: float
) -> sparse.csr_array:
    cells = overlaps.tocoo()
    items, others = cells.coords
    others_only = items + first_item != others
    items, others, shared = items[others_only], others[others_only], cells.data[others_only]
    cosines = shared / (norms[items + first_item] * norms[others] + shrinkage)
    order = np.lexsort((others, -cosines, items))
    begins = np.searchsorted(items[order], np.arange(overlaps.shape[0]))
    place_in_row = np.arange(len(order)) - begins[items[order]]
    kept = order[place_in_row < neighbours]
    return sparse.csr_array((cosines[kept], (items[kept], others[kept])), shape=overlaps.shape)
