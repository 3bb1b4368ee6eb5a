"""Items that single rows of a batch must not be given, such as those the user has seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from asterism.core.errors import RequestError
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices


class ExcludedPairs(NamedTuple):
    """Pairs of row and item, in order of rows."""

    rows: Indices  # (n,)
    items: Indices  # (n,)

    @classmethod
    def of(cls, excluded: Sequence[ArrayLike] | ExcludedPairs | None, rows: int) -> ExcludedPairs:
        """Of pairs, or of the items of each row; raises `RequestError` where there are not as many as rows."""
        if isinstance(excluded, ExcludedPairs):
            return cls(*(np.asarray(one, dtype=np.int64) for one in excluded))
        if excluded is None:
            return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        if len(excluded) != rows:
            raise RequestError(f"`excluded` has {len(excluded)} rows for {rows} histories; give one for each")
        lists = [np.asarray(one, dtype=np.int64).ravel() for one in excluded]
        items = np.concatenate([np.empty(0, dtype=np.int64), *lists])
        return cls(np.repeat(np.arange(rows), [len(one) for one in lists]), items)


class Exclusions:
    """Pairs of row and item, each at most once and sorted, of items that can be generated."""

    def __init__(self, rows: Indices, items: Indices) -> None:
        """Take pairs (n,) that are all this already."""
        self.given = rows, items  # in order of rows; may repeat, or hold what cannot be generated
        self._view: TrieSnapshot | None = None

    @classmethod
    def of_pairs(cls, view: TrieSnapshot, rows: Indices, items: Indices) -> Exclusions:
        """Drop what repeats and what the trie lacks anyway; item indices lie below `view.known_items`.

        Where rows are in order, that is put off until somebody asks for what is left.
        """
        found = cls(rows, items)
        found._view = view
        if not (rows[1:] >= rows[:-1]).all():
            found.given = found._pairs
        return found

    @classmethod
    def none(cls) -> Exclusions:
        """Nothing is excluded."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    @property
    def rows(self) -> Indices:
        """(pairs,) ascending."""
        return self._pairs[0]

    @property
    def items(self) -> Indices:
        """(pairs,) of each row ascending."""
        return self._pairs[1]

    @cached_property
    def _pairs(self) -> tuple[Indices, Indices]:
        rows, items = self.given
        if self._view is None:
            return rows, items
        present = self._view.holds(items)
        pairs = np.unique(rows[present] * self._view.known_items + items[present])
        rows, items = np.divmod(pairs, max(1, self._view.known_items))
        return rows, items
