"""Ids as users write them (strings), and the dense integers that arrays need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import UnknownIdError


class IdMap:
    """An ordered set of string ids; the position of an id is its dense index."""

    __slots__ = ("_ids", "_index")

    def __init__(self, ids: Iterable[str]) -> None:
        """Raise `ValueError` naming the first id that appears twice."""
        self._ids: tuple[str, ...] = tuple(ids)
        self._index: dict[str, int] = {}
        for position, one in enumerate(self._ids):
            if self._index.setdefault(one, position) != position:
                raise ValueError(f"id {one!r} appears twice, at {self._index[one]} and {position}")

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, one: object) -> bool:
        return one in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} ids)"

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids in index order."""
        return self._ids

    def id_of(self, index: int) -> str:
        """The id at a dense index."""
        return self._ids[index]

    def index_of(self, one: str) -> int:
        """The dense index of an id; raises `UnknownIdError`."""
        try:
            return self._index[one]
        except KeyError:
            raise UnknownIdError(f"id {one!r} is not one of the {len(self)} known ids") from None

    def get(self, one: str) -> int | None:
        """The dense index of an id, or None."""
        return self._index.get(one)

    def encode(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Dense indices of many ids; an unknown id becomes -1."""
        return np.array(list(map(self._index.get, ids, repeat(-1))), dtype=np.int64)
