"""Which items each row of a batch may be given, and the prefixes that lead nowhere because of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.sieve import alive_nodes, sieve_of
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices, Words, count_bits, is_in, pack, ranges


class _Dead(NamedTuple):
    """On a level above the nodes, the children that single rows must not step to; sorted by key."""

    keys: Indices  # row * addresses + parent's address
    codes: Indices


class Admission:
    """The filters and the exclusions of a batch's rows, held against one snapshot.

    A filter tells by bitmaps which prefixes above the nodes still lead somewhere; exclusions close such a prefix for
    their row where nothing else is left below it. From the nodes on, the entries themselves are looked at.
    """

    def __init__(
        self, view: TrieSnapshot, rows: int, exclusions: Exclusions, filters: Sequence[ItemFilter | None]
    ) -> None:
        """Take a filter, or None, for each of the rows; no filters at all where there are none."""
        self._view = view
        self._filters = list({id(one): one for one in filters if one is not None}.values())
        group = {id(one): number for number, one in enumerate(self._filters)}
        self.of_rows: Sequence[ItemFilter | None] = filters or [None] * rows
        self._groups = np.full(rows, -1, dtype=np.int64)
        if self._filters:
            self._groups[:] = [-1 if one is None else group[id(one)] for one in filters]
        self._sieves = [sieve_of(one, view) for one in self._filters]
        self._alike = len(self._filters) == 1 and bool((self._groups == 0).all())
        stacked = range(view.layout.head if self._filters and not self._alike else 0)
        self._bits = [self._stacked(level) for level in stacked]
        self._denied = exclusions.rows * view.known_items + exclusions.items
        self._dead: list[_Dead] = []
        nodes = view.layout.addresses(view.paths_of(exclusions.items))
        self._touched, counts = np.unique(exclusions.rows * view.layout.nodes + nodes, return_counts=True)
        #: (rows,) whether anything is left for the row.
        self.rows_left = self._close_prefixes(rows, counts)

    def _stacked(self, level: int) -> Words:
        """(filters + 1, addresses, words) the filters' bitmaps and, for rows without a filter, all bits set."""
        unfiltered = np.full_like(self._view.heads[level], ~np.uint64(0))
        return np.stack([*(one.bits[level] for one in self._sieves), unfiltered])

    def admits(self, rows: Indices, items: Indices) -> NDArray[np.bool_]:
        """Which of the items (n,), all present, the rows (n,) may be given."""
        admitted = self._allows(rows, items)
        if len(self._denied):
            admitted &= ~is_in(rows * self._view.known_items + items, self._denied)
        return admitted

    def _allows(self, rows: Indices, items: Indices) -> NDArray[np.bool_]:
        """The same by filters alone."""
        if self._alike:
            return self._filters[0].allows(items)
        admitted = np.ones(len(items), dtype=np.bool_)
        for number, one in enumerate(self._filters):
            own = np.flatnonzero(self._groups[rows] == number)
            admitted[own] = one.allows(items[own])
        return admitted

    def narrow(self, level: int, rows: Indices, addresses: Indices, bits: Words) -> Words:
        """Of the bitmaps of codes that may follow prefixes (n,) of rows (n,), those that leave the row something."""
        if level == self._view.layout.head:
            return self._narrow_nodes(rows, addresses, bits)
        bits = self._sieved(level, rows, addresses, bits)
        dead = self._dead[level]
        if len(dead.keys):
            keys = rows * len(self._view.heads[level]) + addresses
            positions, places = ranges(np.searchsorted(dead.keys, keys), np.searchsorted(dead.keys, keys, "right"))
            codes = dead.codes[places]
            np.bitwise_and.at(bits, (positions, codes >> 6), ~(np.uint64(1) << (codes & 63).astype(np.uint64)))
        return bits

    def _sieved(self, level: int, rows: Indices, addresses: Indices, bits: Words) -> Words:
        """Of bitmaps above the nodes, what the rows' filters leave."""
        if self._alike:
            return bits & self._sieves[0].bits[level].take(addresses, axis=0)
        return bits & self._bits[level][self._groups[rows], addresses] if self._filters else bits

    def _narrow_nodes(self, rows: Indices, nodes: Indices, bits: Words) -> Words:
        """Look at the entries of all nodes of filtered rows, and of those that hold something excluded."""
        view = self._view
        holding = is_in(rows * view.layout.nodes + nodes, self._touched)
        touched = np.flatnonzero((self._groups[rows] >= 0) | holding)
        if len(touched) == 0:
            return bits
        positions, entries = ranges(*view.node_ranges(nodes[touched]))
        items, owners = view.items_at(entries), rows[touched]
        kept = self._allows(owners[positions], items)
        denied = np.flatnonzero(holding[touched][positions])  # elsewhere nothing is excluded
        kept[denied] &= ~is_in(owners[positions[denied]] * view.known_items + items[denied], self._denied)
        size = view.layout.sizes[view.layout.head]
        mask = np.zeros((len(touched), size), dtype=np.bool_)
        codes = view.entries[f"code_{view.layout.head}"].take(entries[kept])
        mask.ravel()[positions[kept] * size + codes] = True
        bits[touched] = pack(mask)
        return bits

    def _close_prefixes(self, rows: int, excluded: Indices) -> NDArray[np.bool_]:
        """Find the dead children of every level above the nodes; (rows,) whether the row's root is alive.

        `excluded` (touched nodes,) counts the excluded items below each.
        """
        view, layout = self._view, self._view.layout
        owners, addresses = np.divmod(self._touched, layout.nodes)
        starts, stops = view.node_ranges(addresses)
        groups = self._groups[owners]
        suspects = np.flatnonzero((groups >= 0) | (excluded == stops - starts))
        of_rows = owners[suspects]
        dead = suspects[~alive_nodes(view, addresses[suspects], lambda at, items: self.admits(of_rows[at], items))]
        for number, sieve in enumerate(self._sieves):  # what the filter closed already is not closed once more
            dead = dead[(groups[dead] != number) | sieve.nodes[addresses[dead]]]
        owners, addresses = owners[dead], addresses[dead]
        if len(dead) == 0:  # as is usual
            self._dead = [_Dead(owners, addresses)] * layout.head
            return self._roots(rows, owners)
        for level in range(layout.head - 1, -1, -1):
            parents, codes = np.divmod(addresses, layout.sizes[level])
            keys = owners * len(view.heads[level]) + parents
            self._dead.insert(0, _Dead(keys, codes))
            _, first, counts = np.unique(keys, return_index=True, return_counts=True)
            owners, addresses = owners[first], parents[first]
            bits = view.heads[level][addresses]
            gone = counts == count_bits(self._sieved(level, owners, addresses, bits))
            owners, addresses = owners[gone], addresses[gone]
        return self._roots(rows, owners)

    def _roots(self, rows: int, closed: Indices) -> NDArray[np.bool_]:
        left = np.ones(rows, dtype=np.bool_)
        for number, sieve in enumerate(self._sieves):
            left[self._groups == number] = sieve.nodes.any()
        left[closed] = False
        return left
