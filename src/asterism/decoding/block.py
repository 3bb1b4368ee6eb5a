"""One node's entries as the writer edits them: a copy with one item more or one less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.arena import Columns
from asterism.decoding.trie_layout import Layout, code_type

_UNIT: Final = 8


def capacity(count: int) -> int:
    """The rows of a block of so many entries; one more at least, for the end of the last child."""
    return (count // _UNIT + 1) * _UNIT


def capacities(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for many blocks; a node without items has none."""
    return np.where(counts > 0, (counts // _UNIT + 1) * _UNIT, 0)


def entry_types(layout: Layout) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The columns of entries."""
    types: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {"items": (np.dtype(np.int32), ())}
    if layout.node_bitmaps:
        types["starts"] = (np.dtype(np.int32), ())
    for level in range(layout.head, layout.levels):
        types[f"code_{level}"] = (code_type(layout.sizes[level]), ())
    return types


class Block(NamedTuple):
    """A node's run of entries."""

    base: int
    size: int
    children: int  # of the node, where it has a bitmap


class Place(NamedTuple):
    """Where a path stands, or would stand, in a block."""

    entry: int  # counted from the block's start
    found: bool
    rank: int  # of the node's child that the path leads to
    siblings: int  # entries below this child


def find(layout: Layout, entries: Columns, block: Block, path: Sequence[int]) -> Place:
    """Look a path up in a block."""
    base, low, high = block.base, 0, block.size
    rank = siblings = 0
    for level in range(layout.head, layout.levels):
        column = entries[f"code_{level}"][base + low : base + high]
        code = column.dtype.type(path[level])
        low, high = low + int(column.searchsorted(code)), low + int(column.searchsorted(code, "right"))
        if level == layout.head:
            siblings = high - low
            if layout.node_bitmaps:
                rank = int(entries["starts"][base : base + block.children].searchsorted(low))
        if low == high:
            break
    return Place(low, low < high, rank, siblings)


def copy_with(entries: Columns, block: Block, new: int, place: Place, values: dict[str, int]) -> None:
    """Write a block to `new` with one more entry at a place."""
    old, entry, count = block.base, place.entry, block.size
    for name, value in values.items():
        column = entries[name]
        column[new : new + entry] = column[old : old + entry]
        column[new + entry] = value
        column[new + entry + 1 : new + count + 1] = column[old + entry : old + count]
    if "starts" not in entries:
        return
    starts = entries["starts"]
    ends = starts[old : old + block.children + 1] if count else np.zeros(1, dtype=np.int32)
    kept = place.rank + (place.siblings > 0)
    later = ends[kept:] + 1
    starts[new : new + kept] = ends[:kept]
    if place.siblings == 0:
        starts[new + kept] = entry
        kept += 1
    starts[new + kept : new + kept + len(later)] = later


def copy_without(entries: Columns, block: Block, new: int, place: Place) -> None:
    """Write a block to `new` without the entry at a place."""
    old, entry, count = block.base, place.entry, block.size
    for name, column in entries.items():
        if name != "starts":
            column[new : new + entry] = column[old : old + entry]
            column[new + entry : new + count - 1] = column[old + entry + 1 : old + count]
    if "starts" not in entries:
        return
    starts = entries["starts"]
    kept = place.rank + (place.siblings > 1)
    later = starts[old + place.rank + 1 : old + block.children + 1] - 1
    starts[new : new + kept] = starts[old : old + kept]
    starts[new + kept : new + kept + len(later)] = later
