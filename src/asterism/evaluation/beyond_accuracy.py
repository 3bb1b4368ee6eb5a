"""What lists do to the catalogue: coverage, concentration, novelty, diversity, the long tail.

All functions take `lists` (cases, k), dense item indices padded by -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from asterism.core.errors import ModelError
from asterism.evaluation.ranking import PADDING

#: The head is the smallest set of most popular items that holds this share of the training events.
HEAD_SHARE: Final = 0.8

Lists = NDArray[np.integer]
Counts = NDArray[np.int64]
#: (items, D), dense or sparse; a row of zeros is an item without a vector.
ItemVectors: TypeAlias = NDArray[np.floating] | sparse.csr_array


def exposure(lists: Lists, catalogue_size: int) -> Counts:
    """(items,) in how many lists each item stands."""
    return np.bincount(lists[lists != PADDING], minlength=catalogue_size)


def coverage(exposures: Counts) -> float:
    """Catalogue coverage = |items in at least one list| / |items|."""
    return float(np.count_nonzero(exposures) / len(exposures))


def gini(exposures: Counts) -> float:
    """Gini index of exposure: 0 where every item is shown equally often, near 1 where one item takes all.

    G = Σ_j (2j - n - 1) x_j / (n Σ_j x_j) over the n items of the catalogue, x ascending, j from 1. No exposure: 0.
    """
    total = exposures.sum()
    if total == 0:
        return 0.0
    size = len(exposures)
    weights = 2.0 * np.arange(1, size + 1) - size - 1
    return float(weights @ np.sort(exposures) / (size * total))


def novelty(lists: Lists, train_counts: Counts) -> float | None:
    """Mean self-information of the listed items, in bits: -log2 p(i), p(i) = (n_i + 1) / (Σ n + |items|).

    n_i counts training events; the added one gives an item without events a finite value. No listed item: None.
    Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", 2010.
    """
    shares = (train_counts + 1.0) / (train_counts.sum() + len(train_counts))
    shown = lists[lists != PADDING]
    return float(-np.log2(shares[shown]).mean()) if len(shown) else None


def long_tail_share(lists: Lists, train_counts: Counts) -> float | None:
    """The share of listed items that are outside the head; no listed item: None."""
    shown = lists[lists != PADDING]
    return float(is_tail(train_counts)[shown].mean()) if len(shown) else None


def is_tail(train_counts: Counts) -> NDArray[np.bool_]:
    """(items,) True outside the head: the fewest most popular items that together hold HEAD_SHARE of the events.

    Of items equally popular at the border, the ones with the lower index are in the head.
    """
    order = np.argsort(-train_counts, kind="stable")
    before = np.cumsum(train_counts[order]) - train_counts[order]
    tail = np.empty(len(train_counts), dtype=np.bool_)
    tail[order] = before >= HEAD_SHARE * train_counts.sum()
    return tail


def intra_list_diversity(lists: Lists, item_vectors: ItemVectors) -> float | None:
    """1 - the mean cosine of all pairs in a list, averaged over lists of at least two items; no such list: None.

    The pairs need not be walked: Σ_{i<j} u_i·u_j = (‖Σ u_i‖² - Σ ‖u_i‖²) / 2 for unit vectors u.
    An item without a vector (all zeros) has cosine 0 with every other. Raises `ModelError` where rows of
    `item_vectors` (items, D) are missing.
    Ziegler et al., "Improving recommendation lists through topic diversification", 2005.
    """
    if lists.size and lists.max() >= item_vectors.shape[0]:
        raise ModelError(f"item {lists.max()} is listed, but there are vectors for {item_vectors.shape[0]} items only")
    units = _unit_rows(item_vectors)
    sizes = (lists != PADDING).sum(axis=1)
    long_enough = sizes >= 2
    if not long_enough.any():
        return None
    members = _membership(lists[long_enough], units.shape[0])
    own = members @ _squared_norms(units)
    together = _squared_norms(members @ units)
    pairs = sizes[long_enough] * (sizes[long_enough] - 1.0)
    return float(1.0 - ((together - own) / pairs).mean())


def category_vectors(categories: Sequence[Sequence[str]]) -> sparse.csr_array:
    """(items, categories) 0/1 vectors, for the diversity of items that have categories but no vectors."""
    columns = {name: column for column, name in enumerate(sorted({name for names in categories for name in names}))}
    wanted = [sorted({columns[name] for name in names}) for names in categories]
    rows = np.repeat(np.arange(len(wanted)), [len(row) for row in wanted])
    cells = np.array([column for row in wanted for column in row], dtype=np.int64)
    return sparse.csr_array((np.ones(len(cells)), (rows, cells)), shape=(len(wanted), len(columns)))


def beyond_accuracy(
    lists: Lists, train_counts: Counts, item_vectors: ItemVectors | None = None
) -> dict[str, float | None]:
    """Every measure of this file over `lists` (cases, k), as `coverage@10` for k = 10.

    Without `item_vectors` there is no diversity to tell and its key is absent.
    """
    exposures = exposure(lists, len(train_counts))
    found: dict[str, float | None] = {
        "coverage": coverage(exposures),
        "gini": gini(exposures),
        "novelty": novelty(lists, train_counts),
        "long_tail_share": long_tail_share(lists, train_counts),
    }
    if item_vectors is not None:
        found["diversity"] = intra_list_diversity(lists, item_vectors)
    return {f"{name}@{lists.shape[1]}": value for name, value in found.items()}


def _membership(lists: Lists, catalogue_size: int) -> sparse.csr_array:
    rows, columns = np.nonzero(lists != PADDING)
    return sparse.csr_array((np.ones(len(rows)), (rows, lists[rows, columns])), shape=(len(lists), catalogue_size))


def _squared_norms(vectors: ItemVectors) -> NDArray[np.float64]:
    # `*` is element by element for numpy and for scipy's sparse arrays.
    return np.asarray((vectors * vectors).sum(axis=1), dtype=np.float64).ravel()


def _unit_rows(vectors: ItemVectors) -> ItemVectors:
    wide = vectors.astype(np.float64)
    norms = np.sqrt(_squared_norms(wide))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ wide) if sparse.issparse(wide) else wide * scale[:, None]
