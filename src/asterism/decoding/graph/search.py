"""From a state to recommendations inside one graph: the generator's three modes, all levels of the beam unrolled."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from asterism.config.run import DecodingConfig
from asterism.decoding.graph.code_levels import CodeLevel, items_by_path
from asterism.decoding.graph.heads import all_item_scores, code_state, history_scores, item_scores
from asterism.decoding.graph.values import Graph, Value
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.recommendations import Mode
from asterism.models.ugt import UGT


class Search(NamedTuple):
    """What is fixed when the graph is written."""

    k: int
    mode: Mode
    decoding: DecodingConfig  # its beam and its weights
    heads: HistoryHeads

    @property
    def width(self) -> int:
        """Of the beam; never narrower than k."""
        return max(self.decoding.beam, self.k)


class Found(NamedTuple):
    """Best first; -1 and -inf where a row has no more."""

    items: Value  # (B, k) long
    scores: Value  # (B, k) float


class Sizes(NamedTuple):
    """What rows may ask for each, (B,) long: no more than the search's width, and no more items than that."""

    widths: Value
    counts: Value


class Ordered(NamedTuple):
    """Scored items, best first."""

    found: Found
    beside: Value | None  # (B, k) what stood beside them; anything where there is none


class Permitted(Protocol):
    """Which items rows may be given, and how those with scores are put in order."""

    def any_left(self) -> Value:
        """(B, 1) bool, whether there is one."""
        ...

    def below(self, starts: Value, stops: Value) -> Value:
        """(B, M) bool, whether there is one among those from a place on, and before another, in order of path."""
        ...

    def best(self, items: Value, scores: Value, count: int, beside: Value | None = None) -> Ordered:
        """The best of items (B, M) with scores (B, M), of equal ones the lower index first, in min(`count`, N) columns.

        What has a score of -inf may be any item, many times; of others there are no two.
        """
        ...


def recommend(
    graph: Graph,
    model: UGT,
    state: Value,
    history: Value,
    permitted: Permitted,
    search: Search,
    sizes: Sizes | None = None,
) -> Found:
    """The generator's answer in the modes `rescored` and `generate` for states (B, S) and the items read (B, T).

    Of equal scores the lower item index stands first, and beams are chosen as `beam_search` chooses them.
    """
    rescored = search.mode == "rescored"
    found = _beam_search(graph, model, state, permitted, search.width, search.width if rescored else search.k, sizes)
    if rescored:
        found = _rescored(graph, model, state, history, permitted, found, search, sizes)
    return _in_columns(graph, found, search.k, model.items.count)


def rank(graph: Graph, model: UGT, state: Value, alive: Value, k: int) -> Found:
    """The generator's answer in the mode `rank`; `alive` (B, N) bool, which items a row may be given."""
    scores = graph.where(alive, all_item_scores(graph, model, state), -np.inf)
    return _in_columns(graph, best(graph, scores, min(k, model.items.count)), k, model.items.count)


def best(graph: Graph, scores: Value, count: int) -> Found:
    """The best of the whole catalogue's scores (B, N)."""
    values, items = scores.best(count)
    return Found(graph.where(values > -np.inf, items, -1), values)


def _beam_search(
    graph: Graph, model: UGT, state: Value, permitted: Permitted, width: int, count: int, sizes: Sizes | None
) -> Found:
    states = code_state(model, state)
    left = permitted.any_left()
    parents = left.cast(np.int64) * 0
    totals = graph.where(left, parents.cast(np.float32), -np.inf)
    last, beams = len(model.codebook_sizes) - 1, 1
    for number in range(last + 1):
        level = CodeLevel(graph, model, number)
        found = level.children(parents)
        nodes = found.nodes.flat(1)
        alive = permitted.below(*level.bounds(nodes))
        reached = (totals.unsqueeze(2) + level.log_probs(states, parents, found, prefixes=beams)).flat(1)
        scores = graph.where(found.legal.flat(1) & alive, reached, -np.inf)
        if number == last:
            items = graph.table("items by path", lambda: items_by_path(model)).at(nodes)
            ordered = permitted.best(items, scores, count)
            return ordered.found if sizes is None else _first(graph, ordered.found, sizes.widths)
        beams = min(width, beams * level.family)
        totals, places = scores.best(beams)
        if sizes is not None:
            totals = graph.where(_is_within(graph.constant(np.arange(beams)), sizes.widths), totals, -np.inf)
        parents = nodes.along(places, 1)
    raise AssertionError("a semantic id has at least one level")


def _rescored(
    graph: Graph,
    model: UGT,
    state: Value,
    history: Value,
    permitted: Permitted,
    found: Found,
    search: Search,
    sizes: Sizes | None,
) -> Found:
    """The cascade after generation; see `rescoring.rescore`."""
    config = search.decoding
    head = found.scores * 0.0
    if config.item_weight != 0 or config.kept > 0:
        head = item_scores(graph, model, state, found.items.at_least(0))
    if 0 < config.kept < min(search.width, model.items.count):
        found, head = _kept(graph, permitted, found, head, search, sizes)
    items = found.items.at_least(0)
    fused = head * config.item_weight
    if config.code_weight != 0:
        fused = fused + graph.where(found.items >= 0, found.scores, 0.0) * config.code_weight
    of_history = history_scores(graph, search.heads, config, history, items)
    fused = fused if of_history is None else fused + of_history
    scores = graph.where(found.items >= 0, fused, -np.inf)
    return permitted.best(items, scores, search.k).found


def _kept(
    graph: Graph, permitted: Permitted, found: Found, head: Value, search: Search, sizes: Sizes | None
) -> tuple[Found, Value]:
    """Those of the found items that the item head (B, M) keeps, with their own scores; and the head's."""
    scores = graph.where(found.items >= 0, head, -np.inf)
    count = max(search.decoding.kept, search.k)
    kept, own = permitted.best(found.items.at_least(0), scores, count, beside=found.scores)
    assert own is not None
    if sizes is not None:
        kept = _first(graph, kept, sizes.counts.at_least(search.decoding.kept))
    return Found(kept.items, own), kept.scores


def _first(graph: Graph, found: Found, counts: Value) -> Found:
    """Each row's first counts (B,)."""
    within = _is_within(graph.counting(found.items.size(1)), counts)
    return Found(graph.where(within, found.items, -1), graph.where(within, found.scores, -np.inf))


def _is_within(columns: Value, counts: Value) -> Value:
    """(C,) column numbers, (B,) → (B, C) bool."""
    return columns < counts.unsqueeze(1)


def _in_columns(graph: Graph, found: Found, k: int, catalogue: int) -> Found:
    """In k columns, also where the catalogue has fewer items."""
    if k <= catalogue:
        return found
    rows, missing = found.items.size(0), k - catalogue
    items = graph.concat([found.items, graph.filled([rows, missing], -1, np.int64)], 1)
    return Found(items, graph.concat([found.scores, graph.filled([rows, missing], -np.inf, np.float32)], 1))
