"""Which items a request may be given: a list of items, or a mask over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asterism.core.errors import RequestError
from asterism.decoding.trie_layout import Indices, Words, is_in


@dataclass(frozen=True, slots=True)
class Sieve:
    """What a filter leaves of the upper levels of one snapshot: nodes with an allowed item, and the bitmaps above."""

    trie: object  # which trie's snapshot
    version: int
    nodes: NDArray[np.bool_]  # (nodes,)
    bits: list[Words]  # by level < head: (addresses, words)


class ItemFilter:
    """A set of item indices, never changed once made; keep it and pass it again, for what is derived from it is kept.

    `a & b` allows what both allow.
    """

    def __init__(self, listed: Indices | None, mask: NDArray[np.bool_] | None, beyond: bool) -> None:
        """Take sorted distinct items, or a mask and whether items beyond it are allowed; see the makers below."""
        self._listed = listed
        self._mask = mask
        self.beyond = beyond
        self.sieve: Sieve | None = None  # kept here by `sieve_of`

    @classmethod
    def allowing(cls, items: ArrayLike) -> ItemFilter:
        """Only these items; raises `RequestError` on a negative index."""
        return cls(np.unique(_indices(items)), None, False)

    @classmethod
    def denying(cls, items: ArrayLike) -> ItemFilter:
        """All items but these, also those that the catalogue gets later; raises `RequestError` on a negative index."""
        denied = _indices(items)
        mask = np.ones(int(denied.max(initial=-1)) + 1, dtype=np.bool_)
        mask[denied] = False
        return cls(None, mask, True)

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_], *, beyond: bool = False) -> ItemFilter:
        """The items where `mask` (items,) is True; `beyond` tells whether later items are allowed."""
        if mask.dtype != np.bool_ or mask.ndim != 1:
            raise RequestError(f"a filter's mask is (items,) of booleans, not {mask.shape} of {mask.dtype}")
        return cls(None, mask.copy(), beyond)

    def allows(self, items: Indices) -> NDArray[np.bool_]:
        """Which items (n,) are allowed."""
        if self._listed is not None:
            return is_in(items, self._listed)
        assert self._mask is not None
        if len(self._mask) == 0:
            return np.full(len(items), self.beyond)
        inside = self._mask.take(items, mode="clip")
        if self.beyond == bool(self._mask[-1]):  # clipping answers for what lies beyond
            return inside
        return np.where(items < len(self._mask), inside, self.beyond)

    @property
    def parts(self) -> tuple[Indices | None, NDArray[np.bool_] | None]:
        """The allowed items, ascending, or else the mask; not to be changed."""
        return self._listed, self._mask

    @cached_property
    def count(self) -> int | None:
        """How many items are allowed; None where all later items are."""
        if self._listed is not None:
            return len(self._listed)
        assert self._mask is not None
        return None if self.beyond else int(np.count_nonzero(self._mask))

    def listed(self) -> Indices:
        """All allowed items, ascending; none of those beyond the mask."""
        if self._listed is not None:
            return self._listed
        assert self._mask is not None
        return np.flatnonzero(self._mask)

    def __and__(self, other: ItemFilter) -> ItemFilter:
        for one, rest in ((self, other), (other, self)):
            if one._listed is not None:
                return ItemFilter(one._listed[rest.allows(one._listed)], None, False)
        assert self._mask is not None
        assert other._mask is not None
        size = max(len(self._mask), len(other._mask))
        mask = _stretched(self._mask, size, self.beyond) & _stretched(other._mask, size, other.beyond)
        return ItemFilter(None, mask, self.beyond and other.beyond)


def _stretched(mask: NDArray[np.bool_], size: int, beyond: bool) -> NDArray[np.bool_]:
    return mask if len(mask) == size else np.concatenate([mask, np.full(size - len(mask), beyond)])


def _indices(items: ArrayLike) -> Indices:
    found = np.asarray(items, dtype=np.int64).ravel()
    if len(found) and int(found.min()) < 0:
        raise RequestError(f"item index {int(found.min())} of a filter is negative; indices count from 0")
    return found
