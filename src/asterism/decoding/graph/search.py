"""From a state to recommendations inside one graph: the generator's three modes, all levels of the beam unrolled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asterism.config.run import DecodingConfig
from asterism.decoding.graph.code_levels import CodeLevel, items_below
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


class Found(NamedTuple):
    """Best first; -1 and -inf where a row has no more."""

    items: Value  # (B, k) long
    scores: Value  # (B, k) float


def recommend(graph: Graph, model: UGT, state: Value, history: Value, excluded: Value, search: Search) -> Found:
    """The generator's answer for states (B, S), the items read (B, T), and items (B, X) to leave out, -1 for none.

    Of equal scores the lower item index stands first, and beams are chosen as `beam_search` chooses them.
    """
    alive = _alive(graph, model, excluded)
    if search.mode == "rank":
        scores = graph.where(alive, all_item_scores(graph, model, state), -np.inf)
        return _in_columns(graph, _best(graph, scores, min(search.k, model.items.count)), search.k, model.items.count)
    rescored = search.mode == "rescored"
    width = max(search.decoding.beam, search.k) if rescored else search.k
    found = _beam_search(graph, model, state, alive, max(search.decoding.beam, search.k), width)
    if rescored:
        found = _rescored(graph, model, state, history, found, min(width, model.items.count), search)
    return _in_columns(graph, found, search.k, model.items.count)


def _alive(graph: Graph, model: UGT, excluded: Value) -> Value:
    """(B, N) bool, False where an item is left out."""
    items = model.items.count
    everything = graph.filled([excluded.size(0), items + 1], 0, np.int64)
    places = graph.where(excluded >= 0, excluded, items)
    gone = everything.scattered(places, places * 0 + 1, 1)
    return gone.part(0, items, 1) < 1


def _beam_search(graph: Graph, model: UGT, state: Value, alive: Value, width: int, count: int) -> Found:
    by_path, ranges = items_below(model)
    states = code_state(model, state)
    living = alive.at(graph.constant(by_path), 1).cast(np.int64)
    before = graph.concat([living.part(0, 1, 1) * 0, living.running_sum(1)], 1)  # living items before each place
    parents = graph.filled([alive.size(0), 1], 0, np.int64)
    totals = graph.where(living.sum(1, keep=True) > 0, parents.cast(np.float32), -np.inf)
    last, beams = len(ranges) - 1, 1
    for number, (starts, stops) in enumerate(ranges):
        level = CodeLevel(graph, model, number)
        found = level.children(parents)
        nodes = found.nodes.flat(1)
        left = before.along(graph.constant(stops).at(nodes), 1) - before.along(graph.constant(starts).at(nodes), 1)
        reached = (totals.unsqueeze(2) + level.log_probs(states, parents, found)).flat(1)
        scores = graph.where(found.legal.flat(1) & (left > 0), reached, -np.inf)
        if number == last:
            return _by_item(graph, graph.constant(by_path).at(nodes), scores, model.items.count, count)
        beams = min(width, beams * level.family)
        totals, places = scores.best(beams)
        parents = nodes.along(places, 1)
    raise AssertionError("a semantic id has at least one level")


def _rescored(
    graph: Graph, model: UGT, state: Value, history: Value, found: Found, width: int, search: Search
) -> Found:
    """The cascade after generation of `width` items a row; see `rescoring.rescore`."""
    config, catalogue = search.decoding, model.items.count
    head = item_scores(graph, model, state, found.items.at_least(0))
    if config.kept > 0 and max(config.kept, search.k) < width:
        head = graph.where(found.items >= 0, head, -np.inf)
        found, head = _kept(graph, found, head, catalogue, max(config.kept, search.k))
    items = found.items.at_least(0)
    fused = head * config.item_weight
    if config.code_weight != 0:
        fused = fused + graph.where(found.items >= 0, found.scores, 0.0) * config.code_weight
    of_history = history_scores(graph, search.heads, config, history, items)
    fused = fused if of_history is None else fused + of_history
    scores = graph.where(found.items >= 0, fused, -np.inf)
    return _by_item(graph, items, scores, catalogue, search.k)


def _kept(graph: Graph, found: Found, head: Value, catalogue: int, count: int) -> tuple[Found, Value]:
    """The `count` best of the found items by the item head (B, M), with their own scores, and the head's (B, count)."""
    best = _by_item(graph, found.items.at_least(0), head, catalogue, count)
    codes = _laid_out(graph, found.items.at_least(0), found.scores, catalogue)
    return Found(best.items, codes.along(best.items.at_least(0), 1)), best.scores


def _by_item(graph: Graph, items: Value, scores: Value, catalogue: int, count: int) -> Found:
    """The best `count` of items (B, M) with scores (B, M); what has a score of -inf may be any item, many times.

    Scores are laid out over the catalogue, so that TopK, which takes the first of equal ones, takes the lower index.
    """
    return _best(graph, _laid_out(graph, items, scores, catalogue), min(count, catalogue))


def _laid_out(graph: Graph, items: Value, scores: Value, catalogue: int) -> Value:
    """(B, N) the scores (B, M) of items (B, M) at their places, -inf elsewhere."""
    nothing = graph.filled([items.size(0), catalogue + 1], -np.inf, np.float32)
    places = graph.where(scores > -np.inf, items, catalogue)
    return nothing.scattered(places, scores, 1).part(0, catalogue, 1)


def _best(graph: Graph, scores: Value, count: int) -> Found:
    values, items = scores.best(count)
    return Found(graph.where(values > -np.inf, items, -1), values)


def _in_columns(graph: Graph, found: Found, k: int, catalogue: int) -> Found:
    """In k columns, also where the catalogue has fewer items."""
    if k <= catalogue:
        return found
    rows, missing = found.items.size(0), k - catalogue
    items = graph.concat([found.items, graph.filled([rows, missing], -1, np.int64)], 1)
    return Found(items, graph.concat([found.scores, graph.filled([rows, missing], -np.inf, np.float32)], 1))
