"""The trie of all semantic ids in the catalogue: which codes may follow a prefix, and which item a path ends at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import ModelError, UnknownIdError
from asterism.core.semantic_id import SemanticId, SemanticIdTable, format_semantic_id
from asterism.decoding.trie_level import Indices, TrieLevel


class Trie:
    """The items that can be generated, as paths of codes; items come and go without rebuilding it.

    Inside, a prefix is known by its slot (the empty prefix by 0, an absent one by -1), so that a
    search walks down without looking at whole prefixes again. Not safe to change while it is read.
    """

    __slots__ = ("_codes", "_item_at", "_known", "_levels", "_present", "_slots", "codebook_sizes")

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        """An empty trie."""
        self.codebook_sizes: tuple[int, ...] = tuple(int(size) for size in codebook_sizes)
        self._levels: list[TrieLevel] = []
        parents: int | None = 1
        for size in self.codebook_sizes:
            self._levels.append(TrieLevel(size, parents))
            parents = self._levels[-1].direct_children
        self._known = 0
        self._present: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._codes: Indices = np.zeros((0, self.levels), dtype=np.int64)
        self._slots: Indices = np.zeros((0, self.levels), dtype=np.int64)
        self._item_at: Indices = np.full(len(self._levels[-1].sizes), -1, dtype=np.int64)

    @classmethod
    def from_table(cls, table: SemanticIdTable) -> Trie:
        """The trie of a whole table."""
        trie = cls(table.codebook_sizes)
        trie._make_room(len(table))
        trie._codes[: len(table)] = table.codes
        trie._put(np.arange(len(table)))
        return trie

    def __len__(self) -> int:
        """How many items can be generated now."""
        return int(np.count_nonzero(self._present))

    @property
    def levels(self) -> int:
        """All levels, the de-duplication level included."""
        return len(self.codebook_sizes)

    @property
    def known_items(self) -> int:
        """One more than the highest item index ever held; removed items count."""
        return self._known

    @property
    def present(self) -> NDArray[np.bool_]:
        """(known items,) True where the item can be generated now; a view, not to be written to."""
        return self._present[: self._known]

    def require_items(self) -> None:
        """Raise `ModelError` if there is nothing to generate."""
        if not self._present.any():
            raise ModelError("the trie holds no item, so nothing can be recommended; insert items, or exclude fewer")

    def allowed(self, prefixes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which codes may follow prefixes (..., l), l < levels: (..., codebook_sizes[l]); none after an absent one."""
        level = prefixes.shape[-1]
        if level >= self.levels:
            raise ModelError(f"nothing follows a prefix of {level} codes; the trie has {self.levels} levels")
        slots = self.slots_of(prefixes).ravel()
        live = np.flatnonzero(slots >= 0)
        mask = np.zeros((len(slots), self.codebook_sizes[level]), dtype=np.bool_)
        mask[live] = self._levels[level].mask(slots[live])
        return mask.reshape(*prefixes.shape[:-1], self.codebook_sizes[level])

    def slots_of(self, prefixes: NDArray[np.integer]) -> Indices:
        """The slots (...) of prefixes (..., l), l <= levels; -1 where no item lies below."""
        if prefixes.shape[-1] > self.levels:
            raise ModelError(f"a prefix of {prefixes.shape[-1]} codes is longer than the trie's {self.levels} levels")
        slots = np.full(prefixes.shape[:-1], 0 if len(self) else -1, dtype=np.int64)
        for level in range(prefixes.shape[-1]):
            codes = prefixes[..., level].astype(np.int64)
            legal = (slots >= 0) & (codes >= 0) & (codes < self.codebook_sizes[level])
            found = self.child_slots(level, np.where(legal, slots, 0), np.where(legal, codes, 0))
            slots = np.where(legal, found, -1)
        return slots

    def items_of(self, paths: NDArray[np.integer]) -> Indices:
        """The items (...) at whole paths (..., levels); -1 where there is none."""
        return self.items_at(self.slots_of(paths))

    def children(self, level: int, parents: Indices) -> tuple[Indices, Indices]:
        """The codes of `level` that may follow each of (n,) parent slots: positions in `parents`, and codes."""
        return self._levels[level].children(parents)

    def child_slots(self, level: int, parents: Indices, codes: Indices) -> Indices:
        """The slots that codes of `level` lead to from parent slots; -1 where no item lies below."""
        return self._levels[level].find(parents, codes)

    def items_at(self, leaves: Indices) -> Indices:
        """The items at slots of whole paths; -1 at slot -1."""
        return np.asarray(np.where(leaves >= 0, self._item_at[leaves], -1)) if len(self._item_at) else leaves

    def item_slots(self, level: int, items: Indices) -> Indices:
        """The slots of the first `level + 1` codes of present items."""
        slots: Indices = self._slots[items, level]
        return slots

    def subtree_sizes(self, level: int) -> NDArray[np.int32]:
        """How many items lie below each prefix of `level + 1` codes, by slot; a view, not to be written to."""
        return self._levels[level].sizes

    def path_of(self, item: int) -> SemanticId:
        """The path that an item has or, once removed, had; raises `UnknownIdError`."""
        if not 0 <= item < self._known or self._codes[item, 0] < 0:
            raise UnknownIdError(f"item index {item} was never in the trie of {self._known} items")
        return tuple(self._codes[item].tolist())

    def insert(self, item: int, path: Sequence[int]) -> None:
        """Make an item generable; raises `ModelError` if the path is illegal or taken, or the item present."""
        if item < 0:
            raise ModelError(f"item index {item} is negative; indices count from 0")
        if item < self._known and self._present[item]:
            raise ModelError(f"item index {item} is in the trie already; remove it before giving it another path")
        sizes = self.codebook_sizes
        if len(path) != len(sizes) or not all(0 <= code < size for code, size in zip(path, sizes, strict=True)):
            raise ModelError(f"path {tuple(path)} of item index {item} does not fit codebooks of sizes {sizes}")
        codes = np.asarray(path, dtype=np.int64)
        owner = self._owner(codes)
        if owner >= 0:
            raise ModelError(f"path {format_semantic_id(path)} of item index {item} is taken by item index {owner}")
        self._make_room(item + 1)
        self._codes[item] = codes
        self._put(np.array([item]))

    def remove(self, item: int) -> None:
        """Stop generating an item; raises `UnknownIdError` if it is not in the trie."""
        if not (0 <= item < self._known and self._present[item]):
            raise UnknownIdError(f"item index {item} is not in the trie, so it cannot be removed")
        self._take(np.array([item]))

    def without(self, items: Indices) -> Trie:
        """A trie that changes apart from this one and lacks the given items; those absent already are no matter."""
        twin = Trie.__new__(Trie)
        twin.codebook_sizes, twin._known = self.codebook_sizes, self._known
        twin._levels = [level.copy() for level in self._levels]
        twin._present, twin._item_at = self._present.copy(), self._item_at.copy()
        twin._codes, twin._slots = self._codes.copy(), self._slots.copy()
        gone = np.unique(items)
        twin._take(gone[self._present[gone]])
        return twin

    def _owner(self, codes: Indices) -> int:
        """The item at a legal path, or -1; stops where the path leaves the trie."""
        slots = np.zeros(1, dtype=np.int64)
        for level in range(self.levels):
            slots = self.child_slots(level, slots, codes[level : level + 1])
            if slots[0] < 0:
                return -1
        return int(self._item_at[slots[0]])

    def _put(self, items: Indices) -> None:
        parents = np.zeros(len(items), dtype=np.int64)
        for number, level in enumerate(self._levels):
            parents = level.add(parents, self._codes[items, number])
            self._slots[items, number] = parents
        short = len(self._levels[-1].sizes) - len(self._item_at)
        if short > 0:
            self._item_at = np.concatenate([self._item_at, np.full(short, -1, dtype=np.int64)])
        self._item_at[parents] = items
        self._present[items] = True

    def _take(self, items: Indices) -> None:
        parents = np.zeros(len(items), dtype=np.int64)
        for number, level in enumerate(self._levels):
            slots = self._slots[items, number]
            level.subtract(parents, self._codes[items, number], slots)
            parents = slots
        self._item_at[parents] = -1
        self._present[items] = False

    def _make_room(self, items: int) -> None:
        self._known = max(self._known, items)
        spare = max(items, 2 * len(self._present)) - len(self._present)
        if items <= len(self._present):
            return
        blank = np.full((spare, self.levels), -1, dtype=np.int64)
        self._present = np.concatenate([self._present, np.zeros(spare, dtype=np.bool_)])
        self._codes = np.concatenate([self._codes, blank])
        self._slots = np.concatenate([self._slots, blank])
