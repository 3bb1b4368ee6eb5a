"""Items like an item: by what they are, by who took them, or by both."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import RequestError, UnknownIdError
from asterism.core.ids import IdMap
from asterism.stores.vectors import Neighbour, VectorIndex

#: semantic: cosine of the item vectors; collaborative: decayed counts of who took both, over the square root of how
#: often each was taken; hybrid: 1 / (60 + place) in each of the two, summed.
Mode = Literal["semantic", "collaborative", "hybrid"]

#: k of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).
_FUSION: Final = 60
_FUSED: Final = 200  # neighbours of each kind that are fused


class TakenWith(Protocol):
    """What other users took beside and after an item."""

    def of(self, item: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Item indices, and what each is worth after item `item`."""
        ...


class SimilarItems:
    """Neighbours of items of one bundle; every method may be called from any thread."""

    def __init__(self, ids: IdMap, vectors: VectorIndex, taken_with: TakenWith | None) -> None:
        """Take `taken_with` None where the bundle learned none."""
        self._ids = ids
        self._vectors = vectors
        self._taken_with = taken_with

    def nearest(self, item_id: str, count: int, mode: Mode, exclude: Collection[str] = ()) -> list[Neighbour]:
        """The `count` nearest other items; raises `UnknownIdError`, `RequestError` where none are learned."""
        if item_id not in self._ids:
            raise UnknownIdError(f"item {item_id!r} is newer than the served bundle, so nothing is known to be like it")
        if mode == "semantic":
            return self._vectors.nearest(item_id, count, exclude)
        if self._taken_with is None:
            raise RequestError(f"this bundle keeps no neighbours, which mode={mode} needs; ask for mode=semantic")
        by_users = self._by_users(item_id, self._taken_with, exclude)
        if mode == "collaborative":
            return by_users[:count]
        worth: dict[str, float] = {}
        for some in (self._vectors.nearest(item_id, _FUSED, exclude), by_users[:_FUSED]):
            for place, one in enumerate(some, start=1):
                worth[one.item_id] = worth.get(one.item_id, 0.0) + 1 / (_FUSION + place)
        ordered = sorted(worth.items(), key=lambda pair: (-pair[1], pair[0]))
        return [Neighbour(one, value) for one, value in ordered[:count]]

    def _by_users(self, item_id: str, taken_with: TakenWith, exclude: Collection[str]) -> list[Neighbour]:
        items, worth = taken_with.of(self._ids.index_of(item_id))
        pairs = zip(map(self._ids.id_of, items.tolist()), worth.tolist(), strict=True)
        found = [Neighbour(one, value) for one, value in pairs if one != item_id and one not in exclude]
        return sorted(found, key=lambda one: (-one.similarity, one.item_id))
