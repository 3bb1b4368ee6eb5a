"""Searches that end early: where all items left fit into the answer, their scores decide nothing."""

from __future__ import annotations

import numpy as np

from asterism.decoding.admission import Admission
from asterism.decoding.candidates import Beams
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices, ranges


class Settled:
    """Tells when every row's beams have no more items below them than are asked for, and which these are."""

    def __init__(self, view: TrieSnapshot, counts: Indices, admission: Admission | None) -> None:
        """Row r is asked for counts[r] items."""
        self._view = view
        self._rows = len(counts)
        self._counts = counts
        self._admission = admission
        #: (B, largest count) the items once all rows are settled, ascending; -1 where a row has no more.
        self.items: Indices = np.full((len(counts), int(counts.max(initial=0))), -1, dtype=np.int64)

    def all_of(self, beams: Beams, level: int) -> bool:
        """Whether all rows are settled at prefixes of `level` codes."""
        found = self._of_catalogue() if level == 0 else self._below(beams) if level > self._view.layout.head else None
        if found is None:
            return False
        rows, items = found
        if self._admission is not None:
            admitted = self._admission.admits(rows, items)
            rows, items = rows[admitted], items[admitted]
        counts = np.bincount(rows, minlength=self._rows)
        if (counts > self._counts).any():
            return False
        order = np.lexsort((items, rows))
        self.items[rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)] = items[order]
        return True

    def _of_catalogue(self) -> tuple[Indices, Indices] | None:
        """All rows' items where few are allowed, as pairs ordered by row; None where these are more than asked for."""
        sets: list[Indices] = []
        whole: Indices | None = None
        of_rows = self._admission.of_rows if self._admission is not None else [None] * self._rows
        for one, count in zip(of_rows, self._counts.tolist(), strict=True):
            if one is not None and one.count is not None and one.count <= count:
                items = one.listed()
                items = items[items < self._view.known_items]
                sets.append(items[self._view.holds(items)])
            elif self._view.count <= count:
                whole = np.flatnonzero(self._view.present) if whole is None else whole
                sets.append(whole)
            else:
                return None
        return np.repeat(np.arange(self._rows), [len(one) for one in sets]), np.concatenate(sets)

    def _below(self, beams: Beams) -> tuple[Indices, Indices] | None:
        """The items below all beams, as pairs ordered by row; None where these are more than may be looked at."""
        rows, columns = np.nonzero(beams.starts >= 0)
        starts, stops = beams.starts[rows, columns], beams.stops[rows, columns]
        if self._admission is None and int((stops - starts).sum()) > int(self._counts.sum()):
            return None
        positions, entries = ranges(starts, stops)
        return rows[positions], self._view.items_at(entries)
