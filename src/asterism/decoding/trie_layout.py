"""How a trie is laid out: which prefixes are their own addresses, where bitmaps stand, and how codes are stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: So many prefixes at most are addressed directly: 256 by 256, whose children's bitmaps take 2 MiB.
DIRECT_PREFIXES: Final = 65_536
#: Below the addressed prefixes, a wider level lists its codes instead of keeping bitmaps.
BITMAP_CODES: Final = 256
#: Bits of one word of a bitmap.
WORD: Final = 64

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Layout:
    """Prefixes of up to `head` codes are numbers in mixed radix; each longest one, a node, owns a block of entries.

    A block holds the items below the node, sorted by their remaining codes, so that every longer prefix is a range.
    """

    sizes: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Layout:
        """The layout for codebooks of these sizes, the de-duplication level included."""
        return cls(tuple(int(size) for size in sizes))

    @property
    def levels(self) -> int:
        """All levels, the de-duplication level included."""
        return len(self.sizes)

    @cached_property
    def head(self) -> int:
        """The length of the longest prefixes that are addressed directly; at least one code is left for blocks."""
        return max(one for one in range(self.levels) if math.prod(self.sizes[:one]) <= DIRECT_PREFIXES)

    @cached_property
    def nodes(self) -> int:
        """How many prefixes of `head` codes there may be."""
        return math.prod(self.sizes[: self.head])

    @cached_property
    def node_bitmaps(self) -> bool:
        """Whether nodes keep a bitmap of their children."""
        return self.sizes[self.head] <= BITMAP_CODES

    def has_bitmaps(self, level: int) -> bool:
        """Whether the codes of a level that may follow stand in bitmaps."""
        return level < self.head or (level == self.head and self.node_bitmaps)

    def words(self, level: int) -> int:
        """How many words a bitmap of a level's codes takes."""
        return -(-self.sizes[level] // WORD)

    @cached_property
    def below(self) -> Words:
        """(codes of the nodes' level, words) bitmaps of all lower codes: what comes before a child."""
        size = self.sizes[self.head]
        return pack(np.tri(size, size, -1, dtype=np.bool_))

    def addresses(self, codes: NDArray[np.integer]) -> Indices:
        """The nodes (n,) of paths (n, at least `head` codes)."""
        found = np.zeros(len(codes), dtype=np.int64)
        for level in range(self.head):
            found = found * self.sizes[level] + codes[:, level]
        return found


def code_type(size: int) -> np.dtype[Any]:
    """The narrowest type for codes of a codebook of that size."""
    return np.dtype(np.min_scalar_type(size - 1))


def pack(mask: NDArray[np.bool_]) -> Words:
    """Bitmaps (n, words) of masks (n, codes); code c is bit c modulo 64 of word c // 64."""
    codes = mask.shape[1]
    packed = np.zeros((len(mask), -(-codes // WORD) * 8), dtype=np.uint8)
    packed[:, : -(-codes // 8)] = np.packbits(mask, axis=1, bitorder="little")
    return packed.view(np.uint64)


def unpack(bits: Words, codes: int) -> NDArray[np.bool_]:
    """Masks (n, codes) of contiguous bitmaps (n, words)."""
    return np.unpackbits(bits.view(np.uint8), axis=1, count=codes, bitorder="little").view(np.bool_)


def count_bits(bits: Words) -> Indices:
    """How many bits are set in each row (n,)."""
    return np.asarray(np.bitwise_count(bits).sum(axis=1, dtype=np.int64))


def ranges(starts: Indices, stops: Indices) -> tuple[Indices, Indices]:
    """All numbers of n ranges one after the other: which range each stems from, and the number."""
    lengths = stops - starts
    total = int(lengths.sum())
    if total == len(starts) and int(lengths.max(initial=1)) == 1:
        return np.arange(total), starts
    positions = np.repeat(np.arange(len(starts)), lengths)
    return positions, np.arange(total) + (starts - np.cumsum(lengths) + lengths)[positions]


def is_in(keys: Indices, known: Indices) -> NDArray[np.bool_]:
    """Which keys are among the known ones, which are sorted."""
    if len(known) == 0:
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[places] == keys)
