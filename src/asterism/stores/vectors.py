"""Item vectors: which items lie near which."""

from __future__ import annotations

import threading
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

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """Add (items, width) vectors or replace them; found from then on. Raises `ValueError` on what does not fit."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


def unit_vectors(count: int, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors of length one, a zero vector as it is; raises `ValueError` on another shape or a value not finite."""
    if vectors.ndim != 2 or len(vectors) != count:
        raise ValueError(f"vectors of shape {vectors.shape} do not fit {count} items")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector holds a value that is not finite")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit


class _Snapshot(NamedTuple):
    items: IdMap
    unit: NDArray[np.float32]


class ExactVectorIndex:
    """Implements `VectorIndex` by comparing with every item."""

    def __init__(self, items: IdMap, vectors: NDArray[np.floating]) -> None:
        """Take (items, width) vectors in index order; raises `ValueError` on another shape or a value not finite."""
        self._now = _Snapshot(items, unit_vectors(len(items), vectors))
        self._writing = threading.Lock()

    def nearest(self, item_id: str, count: int, exclude: Collection[str] = ()) -> list[Neighbour]:
        """See `VectorIndex.nearest`; ties go to the smaller index."""
        items, unit = self._now
        asked = items.index_of(item_id)
        cosines = unit @ unit[asked]
        left_out = items.encode(exclude)
        cosines[left_out[left_out >= 0]] = -np.inf
        cosines[asked] = -np.inf
        best = np.argsort(-cosines, kind="stable")[:count]
        return [Neighbour(items.id_of(int(one)), float(cosines[one])) for one in best if np.isfinite(cosines[one])]

    def similarities(self, item_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        """See `VectorIndex.similarities`."""
        items, unit = self._now
        rows, columns = items.encode(item_ids), items.encode(others)
        cosines = unit[rows] @ unit[columns].T
        cosines[rows < 0, :] = 0.0
        cosines[:, columns < 0] = 0.0
        return cosines

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """See `VectorIndex.put`; copies all vectors, so many at once cost no more than one."""
        fresh = dict(zip(item_ids, unit_vectors(len(item_ids), vectors), strict=True))
        with self._writing:
            items, unit = self._now
            if unit.shape[1] != vectors.shape[1]:
                raise ValueError(f"vectors of width {vectors.shape[1]} do not fit those of width {unit.shape[1]}")
            added = [one for one in fresh if one not in items]
            unit = np.concatenate([unit, np.zeros((len(added), unit.shape[1]), np.float32)])
            items = IdMap([*items, *added])
            for item_id, vector in fresh.items():
                unit[items.index_of(item_id)] = vector
            self._now = _Snapshot(items, unit)

    def __len__(self) -> int:
        return len(self._now.items)

    def close(self) -> None:
        """See `VectorIndex.close`."""
