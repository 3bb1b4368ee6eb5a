"""Items that a row of a batch must not be given, and the prefixes that lead nowhere because of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.trie import Trie
from asterism.decoding.trie_level import Indices


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Pairs of row and item, each at most once, of items that are present in the trie."""

    rows: Indices  # (pairs,)
    items: Indices  # (pairs,)

    @classmethod
    def of_pairs(cls, trie: Trie, rows: Indices, items: Indices) -> Exclusions:
        """Drop what repeats and what the trie lacks anyway; item indices lie below `trie.known_items`."""
        present = trie.present[items]
        pairs = np.unique(rows[present] * trie.known_items + items[present])
        return cls(*np.divmod(pairs, max(1, trie.known_items)))

    @classmethod
    def none(cls) -> Exclusions:
        """Nothing is excluded."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    def left(self, trie: Trie, rows: int) -> Indices:
        """(rows,) how many items each row may still be given."""
        return len(trie) - np.bincount(self.rows, minlength=rows)


@dataclass(frozen=True, slots=True)
class DeadChildren:
    """On one level, the (row, child) whose items are all excluded for the row, and their parents; sorted keys."""

    children: Indices  # row * children's slots + slot
    parents: Indices  # row * parents' slots + slot
    child_slots: int
    parent_slots: int


def dead_children(trie: Trie, exclusions: Exclusions) -> list[DeadChildren]:
    """For every level, the children that a beam must not step to.

    A prefix is dead for a row exactly if as many of the row's excluded items as of all items lie below it.
    """
    found = []
    parents, parent_slots = np.zeros_like(exclusions.items), 1
    for level in range(trie.levels):
        sizes = trie.subtree_sizes(level)
        slots = trie.item_slots(level, exclusions.items)
        keys, first, counts = np.unique(exclusions.rows * len(sizes) + slots, return_index=True, return_counts=True)
        dead = counts == sizes[slots[first]]
        above = np.unique(exclusions.rows[first[dead]] * parent_slots + parents[first[dead]])
        found.append(DeadChildren(keys[dead], above, len(sizes), parent_slots))
        parents, parent_slots = slots, len(sizes)
    return found


def is_alive(
    trie: Trie, level: int, dead: DeadChildren, rows: Indices, parents: Indices, step: tuple[Indices, Indices]
) -> NDArray[np.bool_]:
    """Which steps lead to an item that is not excluded.

    `rows` and `parents` (n,) tell each beam's row and slot, `step` the (m,) positions of beams and codes.
    """
    positions, codes = step
    alive = np.ones(len(positions), dtype=np.bool_)
    suspect_beams = _is_in(rows * dead.parent_slots + parents, dead.parents)
    suspects = np.flatnonzero(suspect_beams[positions])
    beams = positions[suspects]
    slots = trie.child_slots(level, parents[beams], codes[suspects])
    alive[suspects] = ~_is_in(rows[beams] * dead.child_slots + slots, dead.children)
    return alive


def _is_in(keys: Indices, known: Indices) -> NDArray[np.bool_]:
    if len(known) == 0:
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[places] == keys)
