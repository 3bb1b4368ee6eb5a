"""Collaborative item vectors: which items stand near each other in training sequences."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.data.sequences import Sequences
from asterism.embeddings.linear import truncated_svd
from asterism.embeddings.part import Part

WINDOW: Final = 5  # events to either side that count as near
CONTEXT_SMOOTHING: Final = 0.75  # exponent of the context distribution
SHIFT: Final = 0.0  # log of the number of negative samples that the shift stands for; 0 keeps all positive PMI


def cooccurrence_part(train: Sequences, items: int, width: int, seed: int) -> Part:
    """(items, ≤ width) vectors from training events: U·√S of the positive PMI matrix.

    Levy, Goldberg & Dagan 2015: windowed counts weighted by 1/distance, context distribution smoothed by
    ^0.75, PPMI, truncated SVD with eigenvalue weight 1/2. An item that stands beside no other is not present.
    Raises `DataError` where the sequences name an item beyond the catalogue.
    """
    highest = int(train.items.max(initial=-1))
    if highest >= items:
        raise DataError(f"the training sequences name item {highest}, but the catalogue has {items} items")
    matrix = positive_pmi(cooccurrence_counts(train, items))
    present = np.diff(matrix.indptr) > 0
    seen = np.flatnonzero(present)
    if len(seen) == 0:
        return Part(np.zeros((items, 1), dtype=np.float32), present)
    singular = truncated_svd(matrix[seen][:, seen], width, seed)
    vectors = np.zeros((items, len(singular.values)), dtype=np.float32)
    vectors[seen] = singular.left * np.sqrt(singular.values)
    return Part(vectors, present)


def cooccurrence_counts(train: Sequences, items: int) -> sp.csr_array:
    """(items, items) symmetric sums of 1/distance over pairs of different items within the window."""
    total = sp.csr_array((items, items), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        first, second = train.pairs_apart(distance)
        near = first != second
        weights: NDArray[np.float64] = np.full(int(near.sum()), 1.0 / distance)
        pairs = sp.coo_array((weights, (first[near], second[near])), shape=(items, items)).tocsr()
        total = total + pairs + pairs.T
    return sp.csr_array(total)


def positive_pmi(counts: sp.csr_array) -> sp.csr_array:
    """max(0, log p(i, c) / (p(i) · p(c)^0.75 renormalised) - SHIFT), zero entries left out."""
    pairs = counts.tocoo()
    of_item = np.asarray(counts.sum(axis=1)).reshape(-1)
    smoothed = of_item**CONTEXT_SMOOTHING
    rows, columns = pairs.coords
    with np.errstate(divide="ignore"):
        pmi = np.log(pairs.data * smoothed.sum() / (of_item[rows] * smoothed[columns])) - SHIFT
    positive = pmi > 0
    return sp.csr_array((pmi[positive], (rows[positive], columns[positive])), shape=counts.shape)
