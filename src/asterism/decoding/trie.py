"""The trie of all semantic ids in the catalogue: which codes may follow a prefix, and which item a path ends at."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import ModelError, UnknownIdError
from asterism.core.semantic_id import SemanticId, SemanticIdTable, format_semantic_id
from asterism.decoding.block import Block, Place, capacity, copy_with, copy_without, find
from asterism.decoding.snapshot import ITEM_PAGE, PRESENT, REMOVED, TrieSnapshot
from asterism.decoding.trie_build import FlatTrie, build
from asterism.decoding.trie_layout import Indices, Layout

#: So many of the newest changes are remembered, by which what was derived from an older snapshot is brought up to date.
_REMEMBERED: Final = 4096


class Trie:
    """The items that can be generated, as paths of codes; items come and go without rebuilding it.

    Every change makes a new snapshot out of copies of the small parts that it touches and puts it in place by one
    assignment. So readers in other threads need no lock and see all of a change or nothing of it; changes wait for
    each other.
    """

    __slots__ = ("_alive", "_entries", "_item_pages", "_log", "_log_start", "_node_pages", "_now", "_writing", "layout")

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        """An empty trie."""
        layout = Layout.of(codebook_sizes)
        none = np.zeros((0, layout.levels), dtype=np.int32)
        self._adopt(build(layout, none, np.zeros(0, dtype=np.uint8)))

    @classmethod
    def from_table(cls, table: SemanticIdTable) -> Trie:
        """The trie of a whole table."""
        states = np.full(len(table), PRESENT, dtype=np.uint8)
        return cls.from_flat(build(Layout.of(table.codebook_sizes), table.codes, states))

    @classmethod
    def from_flat(cls, flat: FlatTrie) -> Trie:
        """The trie that takes over these arrays."""
        trie = cls.__new__(cls)
        trie._adopt(flat)
        return trie

    def _adopt(self, flat: FlatTrie) -> None:
        self.layout = flat.layout
        self._entries, self._node_pages, self._item_pages = flat.entries, flat.node_pages(), flat.item_pages()
        self._writing = threading.Lock()
        self._log = np.zeros(2 * _REMEMBERED, dtype=np.int32)
        self._log_start = 0
        self._alive: deque[weakref.ref[TrieSnapshot]] = deque()
        self._publish(0, flat.count, flat.known_items, tuple(flat.heads))

    def __len__(self) -> int:
        """How many items can be generated now."""
        return self._now.count

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, the de-duplication level included."""
        return self.layout.sizes

    @property
    def levels(self) -> int:
        """All levels, the de-duplication level included."""
        return self.layout.levels

    @property
    def known_items(self) -> int:
        """One more than the highest item index ever held; removed items count."""
        return self._now.known_items

    @property
    def bytes(self) -> int:
        """The memory of all arrays, spare room included."""
        arenas = (self._entries, self._node_pages.arena, self._item_pages.arena)
        arrays: list[NDArray[Any]] = [column for arena in arenas for column in arena.columns.values()]
        arrays += [self._node_pages.table, self._item_pages.table, self._log, *self._now.heads]
        return sum(one.nbytes for one in arrays)

    def snapshot(self) -> TrieSnapshot:
        """What can be generated now, for as long as the snapshot is held."""
        return self._now

    def allowed(self, prefixes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """See `TrieSnapshot.allowed`."""
        return self._now.allowed(prefixes)

    def items_of(self, paths: NDArray[np.integer]) -> Indices:
        """See `TrieSnapshot.items_of`."""
        return self._now.items_of(paths)

    def path_of(self, item: int) -> SemanticId:
        """See `TrieSnapshot.path_of`."""
        return self._now.path_of(item)

    def insert(self, item: int, path: Sequence[int]) -> None:
        """Make an item generable; raises `ModelError` if the path is illegal or taken, or the item present."""
        sizes = self.layout.sizes
        if item < 0:
            raise ModelError(f"item index {item} is negative; indices count from 0")
        if len(path) != len(sizes) or not all(0 <= code < size for code, size in zip(path, sizes, strict=True)):
            raise ModelError(f"path {tuple(path)} of item index {item} does not fit codebooks of sizes {sizes}")
        with self._writing:
            if self._state(item) == PRESENT:
                raise ModelError(f"item index {item} is in the trie already; remove it before giving it another path")
            node = self._node(path)
            block = self._block(node)
            entries = self._entries.columns
            place = find(self.layout, entries, block, path)
            if place.found:
                owner = int(entries["items"][block.base + place.entry])
                raise ModelError(f"path {format_semantic_id(path)} of item index {item} is taken by item index {owner}")
            self._put(item, path, node, block, place)

    def remove(self, item: int) -> None:
        """Stop generating an item; raises `UnknownIdError` if it is not in the trie."""
        with self._writing:
            if self._state(item) != PRESENT:
                raise UnknownIdError(f"item index {item} is not in the trie, so it cannot be removed")
            path = self._now.path_of(item)
            node = self._node(path)
            block = self._block(node)
            place = find(self.layout, self._entries.columns, block, path)
            self._take(item, path, node, block, place)

    def set_present(self, item: int, present: bool) -> None:
        """Take an item out, or put it back under its last path; nothing happens where it is so already.

        Raises `UnknownIdError` if it was never there, `ModelError` if its path was taken meanwhile.
        """
        path = self._now.path_of(item)
        if (self._state(item) == PRESENT) == present:
            return
        if present:
            self.insert(item, path)
        else:
            self.remove(item)

    def compact(self) -> FlatTrie:
        """What can be generated now, in arrays of its own without gaps."""
        now = self._now
        items = np.arange(now.known_items)
        return build(self.layout, now.paths_of(items), now.states_of(items))

    def _put(self, item: int, path: Sequence[int], node: int, block: Block, place: Place) -> None:
        now, layout = self._now, self.layout
        oldest, version = self._oldest(), now.version + 1
        base = self._entries.allocate(capacity(block.size + 1), oldest)
        values = {"items": item} | {f"code_{level}": path[level] for level in range(layout.head, layout.levels)}
        copy_with(self._entries.columns, block, base, place, values)
        self._renew_node(node, (base, block.size + 1), path, place.siblings == 0)
        self._renew_item(item, path, PRESENT)
        heads = now.heads if block.size else self._with_heads(node, True)
        self._release(block, version)
        self._log_change(version, node)
        self._publish(version, now.count + 1, max(now.known_items, item + 1), heads)

    def _take(self, item: int, path: Sequence[int], node: int, block: Block, place: Place) -> None:
        now = self._now
        oldest, version = self._oldest(), now.version + 1
        base = 0
        if block.size > 1:
            base = self._entries.allocate(capacity(block.size - 1), oldest)
            copy_without(self._entries.columns, block, base, place)
        self._renew_node(node, (base, block.size - 1), path, place.siblings == 1)
        self._renew_item(item, path, REMOVED)
        heads = now.heads if block.size > 1 else self._with_heads(node, False)
        self._release(block, version)
        self._log_change(version, node)
        self._publish(version, now.count - 1, now.known_items, heads)

    def _node(self, path: Sequence[int]) -> int:
        node = 0
        for level in range(self.layout.head):
            node = node * self.layout.sizes[level] + path[level]
        return node

    def _block(self, node: int) -> Block:
        """A node's run of entries."""
        pages = self._node_pages
        row = (int(pages.table[node >> pages.shift]) << pages.shift) + (node & ((1 << pages.shift) - 1))
        columns = pages.arena.columns
        base, size = int(columns["bases"][row]), int(columns["sizes"][row])
        children = 0
        if self.layout.node_bitmaps:
            children = int.from_bytes(columns["bits"][row].tobytes(), "little").bit_count()
        return Block(base, size, children)

    def _state(self, item: int) -> int:
        if not 0 <= item < self._now.known_items:
            return 0
        page = int(self._item_pages.table[item >> ITEM_PAGE])
        states = self._item_pages.arena.columns["states"]
        return int(states[(page << ITEM_PAGE) + (item & ((1 << ITEM_PAGE) - 1))])

    def _renew_node(self, node: int, span: tuple[int, int], path: Sequence[int], flip: bool) -> None:
        """Give a node another run of entries; `flip` tells that the child on the path comes or goes."""
        row = self._node_pages.renew(node, self._oldest(), self._now.version + 1)
        columns = self._node_pages.arena.columns
        columns["bases"][row], columns["sizes"][row] = span
        if flip and self.layout.node_bitmaps:
            code = path[self.layout.head]
            columns["bits"][row, code >> 6] ^= np.uint64(1 << (code & 63))

    def _renew_item(self, item: int, path: Sequence[int], state: int) -> None:
        self._item_pages.reach(item + 1)
        row = self._item_pages.renew(item, self._oldest(), self._now.version + 1)
        columns = self._item_pages.arena.columns
        columns["codes"][row] = path
        columns["states"][row] = state

    def _with_heads(self, node: int, filled: bool) -> tuple[NDArray[np.uint64], ...]:
        """The bitmaps above a node that gets its first item or loses its last."""
        heads = list(self._now.heads)
        address = node
        for level in range(self.layout.head - 1, -1, -1):
            address, code = divmod(address, self.layout.sizes[level])
            heads[level] = heads[level].copy()
            had_others = bool(heads[level][address].any())
            heads[level][address, code >> 6] ^= np.uint64(1 << (code & 63))
            if had_others if filled else bool(heads[level][address].any()):
                break
        return tuple(heads)

    def _release(self, block: Block, version: int) -> None:
        if block.size:
            self._entries.release(block.base, capacity(block.size), version)

    def _log_change(self, version: int, node: int) -> None:
        """Remember which node a version changed; snapshots keep the log that they were given."""
        if version - self._log_start > len(self._log):
            kept = self._log[-_REMEMBERED:]
            self._log = np.zeros_like(self._log)
            self._log[:_REMEMBERED] = kept
            self._log_start += len(self._log) - _REMEMBERED
        self._log[version - self._log_start - 1] = node

    def _oldest(self) -> int:
        """The version of the oldest snapshot that anyone still holds."""
        while True:
            snapshot = self._alive[0]()
            if snapshot is not None:
                return snapshot.version
            self._alive.popleft()

    def _publish(self, version: int, count: int, known_items: int, heads: tuple[NDArray[np.uint64], ...]) -> None:
        nodes, items = self._node_pages, self._item_pages
        now = TrieSnapshot(
            self._writing,
            self.layout,
            version,
            count,
            known_items,
            heads,
            nodes.table,
            nodes.arena.columns,
            self._entries.columns,
            items.table,
            items.arena.columns,
            self._log,
            self._log_start,
        )
        self._alive.append(weakref.ref(now))
        self._now = now
