"""What rows may be given, by a row of the whole catalogue each: nothing but operators that any runtime has."""

from __future__ import annotations

import numpy as np

from asterism.decoding.graph.code_levels import items_by_path
from asterism.decoding.graph.search import Found, Ordered, Search, best, rank, recommend
from asterism.decoding.graph.values import Graph, Value
from asterism.models.ugt import UGT


def recommend_all_but(graph: Graph, model: UGT, state: Value, history: Value, excluded: Value, search: Search) -> Found:
    """The generator's answer for states (B, S), the items read (B, T), and items (B, X) to leave out, -1 for none."""
    permitted = OverCatalogue(graph, model, excluded)
    if search.mode == "rank":
        return rank(graph, model, state, permitted.alive, search.k)
    return recommend(graph, model, state, history, permitted, search)


class OverCatalogue:
    """Implements `Permitted`: all items but some of each row."""

    def __init__(self, graph: Graph, model: UGT, excluded: Value) -> None:
        """`excluded` (B, X) long, items to leave out, -1 for none."""
        self._graph, self._items = graph, model.items.count
        self.alive = _alive(graph, self._items, excluded)
        by_path = graph.table("items by path", lambda: items_by_path(model))
        living = self.alive.at(by_path, 1).cast(np.int64)
        self._living = living
        self._before = graph.concat([living.part(0, 1, 1) * 0, living.running_sum(1)], 1)  # items before each place

    def any_left(self) -> Value:
        """See `Permitted.any_left`."""
        return self._living.sum(1, keep=True) > 0

    def below(self, starts: Value, stops: Value) -> Value:
        """See `Permitted.below`."""
        return self._before.along(stops, 1) - self._before.along(starts, 1) > 0

    def best(self, items: Value, scores: Value, count: int, beside: Value | None = None) -> Ordered:
        """See `Permitted.best`.

        Scores are laid out over the catalogue, so that TopK, which takes the first of equal ones, takes the lower
        index.
        """
        places = self._graph.where(scores > -np.inf, items, self._items)
        found = best(self._graph, self._laid_out(places, scores), min(count, self._items))
        return Ordered(found, None if beside is None else self._of(found, places, beside))

    def _of(self, found: Found, places: Value, beside: Value) -> Value:
        return self._laid_out(places, beside).along(found.items.at_least(0), 1)

    def _laid_out(self, places: Value, values: Value) -> Value:
        """(B, N) values (B, M) at their places, -inf elsewhere; what is at place N is left out."""
        nothing = self._graph.filled([places.size(0), self._items + 1], -np.inf, np.float32)
        return nothing.scattered(places, values, 1).part(0, self._items, 1)


def _alive(graph: Graph, items: int, excluded: Value) -> Value:
    """(B, N) bool, False where an item is left out."""
    everything = graph.filled([excluded.size(0), items + 1], 0, np.int64)
    places = graph.where(excluded >= 0, excluded, items)
    gone = everything.scattered(places, places * 0 + 1, 1)
    return gone.part(0, items, 1) < 1
