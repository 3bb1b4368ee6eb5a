"""One level of the trie: from prefixes to the codes that may follow, and to the prefixes these make."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Up to so many prefixes are addressed directly: 256 by 256, whose bitmaps take 2 MiB.
DIRECT_SLOTS: Final = 65_536
#: Wider levels keep sorted codes instead of bitmaps.
BITMAP_CODES: Final = 256

Indices = NDArray[np.int64]


class TrieLevel:
    """The step from prefixes of length l (parents) to prefixes of length l + 1 (children).

    A prefix is known by its slot. A child's key is `parent slot * codes + code`; on the first
    levels the key is the slot, deeper down the sorted keys lead to rows in order of arrival.
    """

    __slots__ = ("_bits", "_keys", "_slots", "_used", "codes", "sizes")

    def __init__(self, codes: int, direct_parents: int | None) -> None:
        """Take the level's codebook size and the number of parents, None where these are not addressed directly."""
        self.codes = codes
        self._bits: NDArray[np.uint8] | None = None
        if codes <= BITMAP_CODES:
            self._bits = np.zeros((direct_parents or 0, (codes + 7) // 8), dtype=np.uint8)
        self._keys: Indices | None = None
        self._slots: Indices = np.empty(0, dtype=np.int64)
        self._used = 0
        if direct_parents is not None and self._bits is not None and direct_parents * codes <= DIRECT_SLOTS:
            self._used = direct_parents * codes
        else:
            self._keys = np.empty(0, dtype=np.int64)
        #: (slots,) items below each child; zero where the child is gone.
        self.sizes: NDArray[np.int32] = np.zeros(self._used, dtype=np.int32)

    @property
    def direct_children(self) -> int | None:
        """The number of directly addressed children, or None."""
        return self._used if self._keys is None else None

    def copy(self) -> TrieLevel:
        """A level that changes apart from this one; sorted keys are shared, for they are replaced and never written."""
        twin = TrieLevel.__new__(TrieLevel)
        twin.codes, twin._used, twin._keys, twin._slots = self.codes, self._used, self._keys, self._slots
        twin.sizes = self.sizes.copy()
        twin._bits = None if self._bits is None else self._bits.copy()
        return twin

    def find(self, parents: Indices, codes: Indices) -> Indices:
        """The slots of children; -1 where no item lies below."""
        keys = parents * self.codes + codes
        slots = keys if self._keys is None else self._look_up(keys, self._keys)
        return np.where((slots >= 0) & (self.sizes[slots] > 0), slots, -1) if len(self.sizes) else slots

    def children(self, parents: Indices) -> tuple[Indices, Indices]:
        """The codes that may follow each of (n,) parents: positions in `parents` ascending, and codes ascending."""
        if self._bits is None:
            return self._sorted_children(parents)
        rows = self._bits[parents]
        width = rows.shape[1]
        filled = np.flatnonzero(rows)
        found = np.flatnonzero(np.unpackbits(rows.ravel()[filled], bitorder="little"))
        at = filled[found >> 3]
        positions = at // width
        return positions, ((at - positions * width) << 3) + (found & 7)

    def mask(self, parents: Indices) -> NDArray[np.bool_]:
        """(n, codes) True where a code may follow one of (n,) parents."""
        if self._bits is not None:
            bits = np.unpackbits(self._bits[parents], axis=1, count=self.codes, bitorder="little")
            return bits.view(np.bool_)
        mask = np.zeros((len(parents), self.codes), dtype=np.bool_)
        mask[self._sorted_children(parents)] = True
        return mask

    def add(self, parents: Indices, codes: Indices) -> Indices:
        """Put one item below each (parent, code), making the children that are not there; returns their slots."""
        keys = parents * self.codes + codes
        slots = keys if self._keys is None else self._make(keys, self._keys)
        np.add.at(self.sizes, slots, 1)
        if self._bits is not None and len(parents):
            self._bits = _grown(self._bits, int(parents.max()) + 1)
            np.bitwise_or.at(self._bits, (parents, codes >> 3), _bit(codes))
        return slots

    def subtract(self, parents: Indices, codes: Indices, slots: Indices) -> None:
        """Take one item from below each child, closing the children that are left without any."""
        np.subtract.at(self.sizes, slots, 1)
        gone = self.sizes[slots] == 0
        if self._bits is not None:
            np.bitwise_and.at(self._bits, (parents[gone], codes[gone] >> 3), ~_bit(codes[gone]))

    def _look_up(self, keys: Indices, known: Indices) -> Indices:
        if len(known) == 0:
            return np.full(keys.shape, -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[places] == keys, self._slots[places], -1)

    def _make(self, keys: Indices, known: Indices) -> Indices:
        slots = self._look_up(keys, known)
        if (slots >= 0).all():
            return slots
        new = np.unique(keys[slots < 0])
        places = np.searchsorted(known, new)
        known = self._keys = np.insert(known, places, new)
        self._slots = np.insert(self._slots, places, np.arange(self._used, self._used + len(new)))
        self._used += len(new)
        self.sizes = _grown(self.sizes, self._used)
        return self._look_up(keys, known)

    def _sorted_children(self, parents: Indices) -> tuple[Indices, Indices]:
        assert self._keys is not None  # a level too wide for bitmaps is never addressed directly
        starts = np.searchsorted(self._keys, parents * self.codes)
        lengths = np.searchsorted(self._keys, (parents + 1) * self.codes) - starts
        positions = np.repeat(np.arange(len(parents)), lengths)
        places = np.arange(len(positions)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        alive = self.sizes[self._slots[places]] > 0
        positions, places = positions[alive], places[alive]
        return positions, self._keys[places] - parents[positions] * self.codes


def _bit(codes: Indices) -> NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (codes & 7).astype(np.uint8))


def _grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    if rows <= len(array):
        return array
    spare = np.zeros((max(rows, 2 * len(array)) - len(array), *array.shape[1:]), dtype=array.dtype)
    return np.concatenate([array, spare])
