"""What rows may be given, by where items stand in the order of their paths: nothing is as wide as the catalogue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asterism.decoding.graph.search import Found, Ordered
from asterism.decoding.graph.values import Graph, Value


class Rows(NamedTuple):
    """What tells which items the rows of a batch may be given, of N items."""

    before: Value  # (S * (N + 1),) int32: by slot, how many allowed items stand before each place
    slots: Value  # (B,) long, the slot of each row
    gone: Value  # (B, X) int32, ascending: places of what a row leaves out besides, each once; N for none


class ByPlace:
    """Implements `Permitted`."""

    def __init__(self, graph: Graph, items: int, rows: Rows) -> None:
        self._graph, self._items, self._before = graph, items, rows.before
        self._offsets = (rows.slots * (items + 1)).unsqueeze(1)
        self._gone = rows.gone.cast(np.int64)
        after = (self._gone + 1).at_most(items)
        counted = self._allowed_before(after) - self._allowed_before(self._gone)  # 0 of what is not allowed anyway
        self.unordered: Value | None = None  # (B,) long, how many scores of a row were no numbers, so far
        self._gone_before = graph.concat([counted.part(0, 1, 1) * 0, counted.running_sum(1)], 1)  # (B, X + 1)

    def any_left(self) -> Value:
        """See `Permitted.any_left`."""
        everywhere = self._offsets * 0
        return self._left(everywhere, everywhere + self._items)

    def below(self, starts: Value, stops: Value) -> Value:
        """See `Permitted.below`."""
        return self._left(starts, stops)

    def best(self, items: Value, scores: Value, count: int, beside: Value | None = None) -> Ordered:
        """See `Permitted.best`."""
        missing = scores.is_nan().cast(np.int64).sum(1)
        self.unordered = missing if self.unordered is None else self.unordered + missing
        columns = self._graph.constant([min(count, self._items)])
        values, places = self._graph.node("TopByKey", [scores, items, columns], [np.float32, np.int64])
        found = Found(self._graph.where(values > -np.inf, items.along(places, 1), -1), values)
        return Ordered(found, None if beside is None else beside.along(places, 1))

    def _left(self, starts: Value, stops: Value) -> Value:
        allowed = self._allowed_before(stops) - self._allowed_before(starts)
        return allowed - (self._left_out_before(stops) - self._left_out_before(starts)) > 0

    def _allowed_before(self, places: Value) -> Value:
        return self._before.at(places + self._offsets).cast(np.int64)

    def _left_out_before(self, places: Value) -> Value:
        found = self._graph.node("SearchSorted", [self._gone, places], [np.int64])[0]
        return self._gone_before.along(found, 1)
