"""The flat form of a trie, without gaps: made from all paths in one sort."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.arena import Arena, Columns, Pages
from asterism.decoding.block import capacities, entry_types
from asterism.decoding.snapshot import ITEM_PAGE, NODE_PAGE, PRESENT
from asterism.decoding.trie_layout import Indices, Layout, Words, code_type, pack, ranges


@dataclass
class FlatTrie:
    """All of a trie's arrays; pages stand in order, after a blank one."""

    layout: Layout
    count: int
    known_items: int
    heads: list[Words]
    nodes: Arena
    entries: Arena
    items: Arena

    def node_pages(self) -> Pages:
        """The pages of nodes."""
        return _in_order(self.nodes, NODE_PAGE)

    def item_pages(self) -> Pages:
        """The pages of items."""
        return _in_order(self.items, ITEM_PAGE)


def _in_order(arena: Arena, shift: int) -> Pages:
    return Pages(arena, np.arange(1, arena.used >> shift, dtype=np.int32), shift)


def build(layout: Layout, codes: NDArray[np.integer], states: NDArray[np.uint8]) -> FlatTrie:
    """The trie of paths (items, levels) in these states, all different where present."""
    items = item_arena(layout, codes, states)
    present = np.flatnonzero(states == PRESENT)
    nodes, order = _in_path_order(layout, codes[present] if len(present) < len(codes) else codes)
    counts = np.bincount(nodes, minlength=layout.nodes)
    spans = _spans(counts)
    places = ranges(spans[:, 0], spans[:, 0] + spans[:, 1])[1]
    del nodes
    rows = int(capacities(counts).sum())
    entries = Arena.of_types(entry_types(layout), rows)
    ordered = present[order]
    entries.columns["items"][places] = ordered
    for level in range(layout.head, layout.levels):
        entries.columns[f"code_{level}"][places] = codes[ordered, level]
    return FlatTrie(layout, len(present), len(codes), *_indexed(layout, spans, counts, places, entries), items)


def item_arena(layout: Layout, codes: NDArray[np.integer], states: NDArray[np.uint8]) -> Arena:
    """The arena of items by index: a blank page, then codes and states."""
    page = 1 << ITEM_PAGE
    used = page + -(-len(codes) // page) * page
    arena = Arena.of_types(item_types(layout), used)
    arena.columns["codes"][page : page + len(codes)] = codes
    arena.columns["states"][page : page + len(codes)] = states
    return arena


def item_types(layout: Layout) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The columns of items."""
    return {
        "codes": (code_type(max(layout.sizes)), (layout.levels,)),
        "states": (np.dtype(np.uint8), ()),
    }


def node_types(layout: Layout) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The columns of nodes."""
    types: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "bases": (np.dtype(np.int32), ()),
        "sizes": (np.dtype(np.int32), ()),
    }
    if layout.node_bitmaps:
        types["bits"] = (np.dtype(np.uint64), (layout.words(layout.head),))
    return types


def _in_path_order(layout: Layout, codes: NDArray[np.integer]) -> tuple[Indices, Indices]:
    """The nodes of paths, and the order in which paths ascend."""
    nodes = layout.addresses(codes)
    if math.prod(layout.sizes) < 2**62:
        keys = nodes.copy()
        for level in range(layout.head, layout.levels):
            keys *= layout.sizes[level]
            keys += codes[:, level]
        return nodes, np.argsort(keys)
    return nodes, np.lexsort([*codes.T[layout.head :][::-1], nodes])


def _spans(counts: Indices) -> NDArray[np.int64]:
    rooms = capacities(counts)
    spans = np.stack([np.cumsum(rooms) - rooms, counts], axis=1)
    spans[counts == 0] = 0
    return spans


def _indexed(
    layout: Layout, spans: NDArray[np.int64], counts: Indices, places: Indices, entries: Arena
) -> tuple[list[Words], Arena, Arena]:
    """Bitmaps of all levels that have them, the arena of nodes, and the entries with their children's starts."""
    page = 1 << NODE_PAGE
    nodes = Arena.of_types(node_types(layout), page + -(-layout.nodes // page) * page)
    nodes.columns["bases"][page : page + layout.nodes] = spans[:, 0]
    nodes.columns["sizes"][page : page + layout.nodes] = spans[:, 1]
    if layout.node_bitmaps:
        size = layout.sizes[layout.head]
        owners = np.repeat(np.arange(layout.nodes), counts)
        codes = entries.columns[f"code_{layout.head}"][places]
        mask = np.zeros((layout.nodes, size), dtype=np.bool_)
        mask[owners, codes] = True
        nodes.columns["bits"][page : page + layout.nodes] = pack(mask)
        _write_starts(entries.columns, spans, owners, codes, places)
    return head_bits(layout, counts > 0), nodes, entries


def _write_starts(
    entries: Columns, spans: NDArray[np.int64], owners: Indices, codes: NDArray[Any], places: Indices
) -> None:
    """By rank where each child of a node begins, and after the last one how many entries there are."""
    new = np.ones(len(codes), dtype=np.bool_)
    new[1:] = (codes[1:] != codes[:-1]) | (owners[1:] != owners[:-1])
    firsts = np.flatnonzero(new)
    parents = owners[firsts]
    children = np.bincount(parents, minlength=len(spans))
    rank = np.arange(len(firsts)) - np.repeat(np.cumsum(children) - children, children)
    base = spans[parents, 0]
    entries["starts"][base + rank] = places[firsts] - base
    filled = spans[:, 1] > 0
    entries["starts"][spans[filled, 0] + children[filled]] = spans[filled, 1]


def head_bits(layout: Layout, alive: NDArray[np.bool_]) -> list[Words]:
    """Bitmaps of the levels above the nodes, from which nodes (nodes,) have something below."""
    found: list[Words] = []
    for level in range(layout.head - 1, -1, -1):
        mask = alive.reshape(-1, layout.sizes[level])
        found.insert(0, pack(mask))
        alive = np.asarray(mask.any(axis=1))
    return found
