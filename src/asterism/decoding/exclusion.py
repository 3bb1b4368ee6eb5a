"""Items that single rows of a batch must not be given, such as those the user has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Pairs of row and item, each at most once and sorted, of items that can be generated."""

    rows: Indices  # (pairs,)
    items: Indices  # (pairs,)

    @classmethod
    def of_pairs(cls, view: TrieSnapshot, rows: Indices, items: Indices) -> Exclusions:
        """Drop what repeats and what the trie lacks anyway; item indices lie below `view.known_items`."""
        present = view.holds(items)
        pairs = np.unique(rows[present] * view.known_items + items[present])
        return cls(*np.divmod(pairs, max(1, view.known_items)))

    @classmethod
    def none(cls) -> Exclusions:
        """Nothing is excluded."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
