"""Item vectors: which items lie near which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from asterism.core.ids import IdMap


class Neighbour(NamedTuple):
    """An item and its cosine to the one asked about."""

    item_id: str
    similarity: float


class VectorIndex(Protocol):
    """Nearest items by cosine; every method may be called from any thread."""

    def nearest(self, item_id: str, count: int, exclude: Collection[str] = ()) -> list[Neighbour]:
        """The `count` nearest other items, nearest first; raises `UnknownIdError`."""
        ...

    def similarities(self, item_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        """(items, others) cosines; a pair with an id that has no vector gets 0."""
        ...


class ExactVectorIndex:
    """Implements `VectorIndex` by comparing with every item."""

    def __init__(self, items: IdMap, vectors: NDArray[np.floating]) -> None:
        """Take (items, width) vectors in index order; raises `ValueError` on another shape or a value not finite."""
        if vectors.ndim != 2 or len(vectors) != len(items):
            raise ValueError(f"vectors of shape {vectors.shape} do not fit {len(items)} items")
        if not np.isfinite(vectors).all():
            raise ValueError("a vector holds a value that is not finite")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._items = items
        self._unit = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def nearest(self, item_id: str, count: int, exclude: Collection[str] = ()) -> list[Neighbour]:
        """See `VectorIndex.nearest`; ties go to the smaller index."""
        asked = self._items.index_of(item_id)
        cosines = self._unit @ self._unit[asked]
        left_out = self._items.encode(exclude)
        cosines[left_out[left_out >= 0]] = -np.inf
        cosines[asked] = -np.inf
        best = np.argsort(-cosines, kind="stable")[:count]
        return [
            Neighbour(self._items.id_of(int(one)), float(cosines[one])) for one in best if np.isfinite(cosines[one])
        ]

    def similarities(self, item_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        """See `VectorIndex.similarities`."""
        rows, columns = self._items.encode(item_ids), self._items.encode(others)
        cosines = self._unit[rows] @ self._unit[columns].T
        cosines[rows < 0, :] = 0.0
        cosines[:, columns < 0] = 0.0
        return cosines
