"""What a filter leaves of the trie's upper levels."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.item_filter import ItemFilter, Sieve
from asterism.decoding.snapshot import Admits, TrieSnapshot
from asterism.decoding.trie_build import head_bits
from asterism.decoding.trie_layout import WORD, Indices, Layout, ranges

#: Entries of each node that the first round of a search for an admitted one looks at; each later round looks at more.
_FIRST_LOOK: Final = 4
_GROWTH: Final = 8


def sieve_of(one: ItemFilter, view: TrieSnapshot) -> Sieve:
    """The filter's sieve for a snapshot.

    It is kept with the filter. For a later snapshot only the nodes that changed since are looked at again; an older
    snapshot gets one of its own.
    """
    kept = one.sieve
    if kept is None or kept.trie is not view.trie or not view.changed_since <= kept.version <= view.version:
        nodes = _nodes_of(one, view)
    elif kept.version == view.version:
        return kept
    else:
        changed = np.unique(view.changed[kept.version - view.changed_since : view.version - view.changed_since])
        nodes = kept.nodes.copy()
        nodes[changed] = alive_nodes(view, changed.astype(np.int64), lambda _, items: one.allows(items))
    sieve = Sieve(view.trie, view.version, nodes, head_bits(view.layout, nodes))
    if kept is None or kept.trie is not view.trie or kept.version < view.version:
        one.sieve = sieve
    return sieve


def sieve_bytes(layout: Layout) -> int:
    """What the arrays of one sieve take."""
    words = sum(math.prod(layout.sizes[:level]) * layout.words(level) for level in range(layout.head))
    return layout.nodes + words * WORD // 8


def alive_nodes(view: TrieSnapshot, nodes: Indices, admits: Admits) -> NDArray[np.bool_]:
    """Which nodes (n,) have an admitted item; `admits` is given positions in `nodes`."""
    starts, stops = view.node_ranges(nodes)
    alive = np.zeros(len(nodes), dtype=np.bool_)
    pending, look = np.flatnonzero(starts < stops), _FIRST_LOOK
    while len(pending):
        ends = np.minimum(starts[pending] + look, stops[pending])
        owners, entries = ranges(starts[pending], ends)
        owners = pending[owners]
        alive[owners[admits(owners, view.items_at(entries))]] = True
        starts[pending] = ends
        pending = pending[~alive[pending] & (ends < stops[pending])]
        look *= _GROWTH
    return alive


def _nodes_of(one: ItemFilter, view: TrieSnapshot) -> NDArray[np.bool_]:
    """(nodes,) from the allowed items where these are few, else from a look into every node."""
    count, layout = one.count, view.layout
    # a look into a node ends after known / count items on average, so that all looks take nodes * known / count
    if count is not None and count * count <= layout.nodes * view.known_items // 2:
        items = one.listed()
        items = items[items < view.known_items]
        items = items[view.holds(items)]
        nodes = np.zeros(layout.nodes, dtype=np.bool_)
        nodes[layout.addresses(view.paths_of(items))] = True
        return nodes
    return alive_nodes(view, np.arange(layout.nodes), lambda _, items: one.allows(items))
