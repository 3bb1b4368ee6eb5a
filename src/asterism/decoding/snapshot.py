"""The trie as one reader sees it: a state that no later insert or remove touches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import ModelError, UnknownIdError
from asterism.core.semantic_id import SemanticId
from asterism.decoding.arena import Columns, locate
from asterism.decoding.trie_layout import Indices, Layout, Words, count_bits, ranges, unpack

#: Logarithms of rows a page.
NODE_PAGE: Final = 6
ITEM_PAGE: Final = 10
#: States of an item index.
PRESENT, REMOVED = 1, 2

#: Which entries may be given: positions among the ranges asked about, and items.
Admits = Callable[[Indices, Indices], NDArray[np.bool_]]


class Runs(NamedTuple):
    """Children of prefixes below the nodes, ordered by prefix and code."""

    positions: Indices  # which of the prefixes asked about
    codes: Indices
    starts: Indices  # their ranges of entries
    stops: Indices


@dataclass(frozen=True, eq=False)
class TrieSnapshot:
    """What may be generated at one moment.

    A prefix of up to `layout.head` codes is known by its address, a longer one by its range of entries (start, stop);
    whole paths by their one entry. Addresses and ranges mean nothing to another snapshot.
    """

    trie: object  # equal for all snapshots of a trie
    layout: Layout
    version: int  # 0 for a trie as built, one more with each change
    count: int
    known_items: int  # one more than the highest item index ever held
    heads: tuple[Words, ...]  # by level < head: (addresses, words) codes that may follow
    node_table: NDArray[np.int32]
    nodes: Columns  # bases and sizes (rows,): first entry and how many; bits (rows, words) where there are bitmaps
    entries: Columns  # items, code_<level> from level `head` on; starts: where a node's children begin, by rank
    item_table: NDArray[np.int32]
    items: Columns  # codes (rows, levels), states (rows,)
    changed: NDArray[np.int32]  # nodes by version, those of the versions after `changed_since`
    changed_since: int

    def __len__(self) -> int:
        """How many items can be generated."""
        return self.count

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(known items,) True where the item can be generated."""
        return self.holds(np.arange(self.known_items))

    def holds(self, items: Indices) -> NDArray[np.bool_]:
        """Which of the items, all below `known_items`, can be generated."""
        return np.asarray(self.states_of(items) == PRESENT)

    def states_of(self, items: Indices) -> NDArray[np.uint8]:
        """The states of items (n,), all below `known_items`: 0 where never held, `PRESENT` or `REMOVED`."""
        return np.asarray(self.items["states"][locate(self.item_table, items, ITEM_PAGE)])

    def paths_of(self, items: Indices) -> NDArray[Any]:
        """(n, levels) codes that items (n,) have or, once removed, had."""
        return np.asarray(self.items["codes"][locate(self.item_table, items, ITEM_PAGE)])

    def path_of(self, item: int) -> SemanticId:
        """The path that an item has or, once removed, had; raises `UnknownIdError`."""
        row = locate(self.item_table, np.array([item]), ITEM_PAGE)[0] if 0 <= item < self.known_items else -1
        if row < 0 or self.items["states"][row] == 0:
            raise UnknownIdError(f"item index {item} was never in the trie of {self.known_items} items")
        return tuple(self.items["codes"][row].tolist())

    def require_items(self) -> None:
        """Raise `ModelError` if there is nothing to generate."""
        if not self.count:
            raise ModelError("the trie holds no item, so nothing can be recommended; insert items, or exclude fewer")

    def child_bits(self, level: int, addresses: Indices) -> Words:
        """(n, words) bitmaps of the codes that may follow prefixes (n,) on a level with bitmaps."""
        if level < self.layout.head:
            return self.heads[level].take(addresses, axis=0)
        return np.asarray(self.nodes["bits"].take(self.node_rows(addresses), axis=0))

    def node_rows(self, addresses: Indices) -> Indices:
        """Where nodes stand in their arena."""
        return locate(self.node_table, addresses, NODE_PAGE)

    def node_ranges(self, addresses: Indices) -> tuple[Indices, Indices]:
        """The ranges of entries below nodes."""
        rows = self.node_rows(addresses)
        starts = self.nodes["bases"].take(rows).astype(np.int64)
        return starts, starts + self.nodes["sizes"].take(rows)

    def child_ranges(self, addresses: Indices, codes: Indices) -> tuple[Indices, Indices]:
        """The ranges of entries below children of nodes; the children are there, and the nodes have bitmaps."""
        rows = self.node_rows(addresses)
        before = self.nodes["bits"].take(rows, axis=0) & self.layout.below.take(codes, axis=0)
        base = self.nodes["bases"].take(rows).astype(np.int64)
        rank = base + count_bits(before)
        starts = self.entries["starts"]
        return base + starts.take(rank), base + starts.take(rank + 1)

    def runs(self, level: int, starts: Indices, stops: Indices, admits: Admits | None = None) -> Runs:
        """The children of ranges (n,) on a level without bitmaps, those without an admitted item left out."""
        positions, entries = ranges(starts, stops)
        # every range has one entry, for none is empty; or entries differ in their last code
        apart = len(entries) == len(starts) or level == self.layout.levels - 1
        if admits is not None:
            kept = admits(positions, self.items_at(entries))
            positions, entries = positions[kept], entries[kept]
        codes = self.entries[f"code_{level}"].take(entries)
        if apart:
            return Runs(positions, codes.astype(np.int64), entries, entries + 1)
        first = np.ones(len(codes), dtype=np.bool_)
        first[1:] = (codes[1:] != codes[:-1]) | (positions[1:] != positions[:-1])
        firsts = np.flatnonzero(first)
        lasts = np.concatenate([firsts[1:], [len(codes)]])[: len(firsts)] - 1
        return Runs(positions[firsts], codes[firsts].astype(np.int64), entries[firsts], entries[lasts] + 1)

    def items_at(self, entries: Indices) -> Indices:
        """The items at entries."""
        return self.entries["items"].take(entries).astype(np.int64)

    def allowed(self, prefixes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which codes may follow prefixes (..., l), l < levels: (..., codebook_sizes[l]); none after an absent one."""
        level = prefixes.shape[-1]
        if level >= self.layout.levels:
            raise ModelError(f"nothing follows a prefix of {level} codes; the trie has {self.layout.levels} levels")
        starts, stops = self.find(prefixes)
        size = self.layout.sizes[level]
        mask = np.zeros((len(starts), size), dtype=np.bool_)
        live = np.flatnonzero(starts >= 0)
        if self.layout.has_bitmaps(level):
            mask[live] = unpack(self.child_bits(level, starts[live]), size)
        else:
            runs = self._runs_below(level, starts[live], stops[live])
            mask[live[runs.positions], runs.codes] = True
        return mask.reshape(*prefixes.shape[:-1], size)

    def items_of(self, paths: NDArray[np.integer]) -> Indices:
        """The items (...) at whole paths (..., levels); -1 where there is none."""
        if paths.shape[-1] != self.layout.levels:
            raise ModelError(f"a path has {self.layout.levels} codes, not {paths.shape[-1]}")
        return self.sole_items(paths)

    def sole_items(self, prefixes: NDArray[np.integer]) -> Indices:
        """The item (...) below each prefix (..., l) that has one only; -1 where there are none or several.

        Which item such a prefix ends at is known without asking a model for the remaining codes.
        """
        starts, stops = self.find(prefixes)
        level = prefixes.shape[-1]
        if level <= self.layout.head:
            nodes = self._sole_nodes(level, starts)
            firsts, lasts = self.node_ranges(np.maximum(nodes, 0))
            starts, stops = np.where(nodes >= 0, firsts, -1), lasts
        sole = (starts >= 0) & (stops - starts == 1)
        found = np.full(len(starts), -1, dtype=np.int64)
        found[sole] = self.items_at(starts[sole])
        return found.reshape(prefixes.shape[:-1])

    def find(self, prefixes: NDArray[np.integer]) -> tuple[Indices, Indices]:
        """Addresses or ranges of prefixes (..., l), flattened; -1 where no item lies below.

        Raises `ModelError` where they have more codes than the trie has levels.
        """
        levels = prefixes.shape[-1]
        if levels > self.layout.levels:
            raise ModelError(f"a prefix of {levels} codes is longer than the trie's {self.layout.levels} levels")
        codes = prefixes.reshape(math.prod(prefixes.shape[:-1]), levels).astype(np.int64)
        starts = np.full(len(codes), 0 if self.count else -1, dtype=np.int64)
        stops = starts + 1
        for level in range(levels):
            legal = (starts >= 0) & (codes[:, level] >= 0) & (codes[:, level] < self.layout.sizes[level])
            live = np.flatnonzero(legal)
            found = self._children(level, starts[live], stops[live], codes[live, level])
            starts, stops = np.full_like(starts, -1), np.full_like(stops, -1)
            starts[live], stops[live] = found
        return starts, stops

    def _children(self, level: int, starts: Indices, stops: Indices, codes: Indices) -> tuple[Indices, Indices]:
        """The places that codes lead to from live places; -1 where no item lies below."""
        if self.layout.has_bitmaps(level):
            bits = self.child_bits(level, starts)
            there = bits[np.arange(len(codes)), codes >> 6] >> (codes & 63).astype(np.uint64) & np.uint64(1) == 1
            if level < self.layout.head:
                first = starts * self.layout.sizes[level] + codes
                last = first + 1
            else:
                first, last = self.child_ranges(np.where(there, starts, 0), np.where(there, codes, 0))
            return np.where(there, first, -1), np.where(there, last, -1)
        runs = self._runs_below(level, starts, stops)
        hit = runs.codes == codes[runs.positions]
        found = np.full((2, len(codes)), -1, dtype=np.int64)
        found[:, runs.positions[hit]] = runs.starts[hit], runs.stops[hit]
        return found[0], found[1]

    def _runs_below(self, level: int, starts: Indices, stops: Indices) -> Runs:
        if level == self.layout.head:
            starts, stops = self.node_ranges(starts)
        return self.runs(level, starts, stops)

    def _sole_nodes(self, level: int, addresses: Indices) -> Indices:
        """The one node below each address of `level` codes; -1 where there are none or several."""
        for deeper in range(level, self.layout.head):
            live = np.flatnonzero(addresses >= 0)
            mask = unpack(self.child_bits(deeper, addresses[live]), self.layout.sizes[deeper])
            sole = np.count_nonzero(mask, axis=1) == 1
            below = addresses[live] * self.layout.sizes[deeper] + mask.argmax(axis=1)
            addresses = np.full_like(addresses, -1)
            addresses[live[sole]] = below[sole]
        return addresses
