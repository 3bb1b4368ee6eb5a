"""What orders the items that were found: the item head, and the heads that look at the history alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from asterism.config.run import DecodingConfig
from asterism.decoding.content import RECENCY_DECAY as CONTENT_DECAY
from asterism.decoding.graph.layers import linear, weights
from asterism.decoding.graph.values import Graph, Value
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import RECENCY_DECAY as NEIGHBOUR_DECAY
from asterism.models.ugt import UGT


def item_queries(model: UGT, state: Value) -> Value:
    """(B, S) → (B, D), as `UGT.item_queries`, over the temperature."""
    width = model.shape.model.width
    own = code_state(model, state)
    query = (own + linear(model.turn, own)).unit()
    if model.pooling is not None:
        query = (query + state.part(width, 2 * width, 1)).unit()
    return query * (1 / model.shape.temperature)


def code_state(model: UGT, state: Value) -> Value:
    """(B, S) → (B, D), as `UGT.code_states`."""
    return state if model.pooling is None else state.part(0, model.shape.model.width, 1)


def item_directions(graph: Graph, model: UGT) -> Value:
    """(N, D)."""
    return graph.table("item directions", lambda: _item_directions(model))


def item_scores(graph: Graph, model: UGT, state: Value, items: Value) -> Value:
    """(B, S) states, (B, C) candidates → (B, C)."""
    return _products(item_queries(model, state), item_directions(graph, model).at(items))


def all_item_scores(graph: Graph, model: UGT, state: Value) -> Value:
    """(B, S) states → (B, N)."""
    return item_queries(model, state) @ graph.table("item directions as columns", lambda: _item_directions(model).T)


def _item_directions(model: UGT) -> NDArray[np.float32]:
    with torch.no_grad():
        return weights(model.item_directions())


def history_scores(
    graph: Graph, heads: HistoryHeads, config: DecodingConfig, history: Value, items: Value
) -> Value | None:
    """(B, T) items of the history and (B, C) candidates → (B, C) the weighted sum; None where no head has weight."""
    heads.check(config)
    total: Value | None = None
    if heads.content is not None and config.content_weight > 0:
        content = heads.content
        directions = graph.table("content directions", lambda: weights(content.directions))
        total = _content(graph, directions, history, items) * config.content_weight
    if heads.neighbours is not None and config.neighbour_weight > 0:
        worth = _neighbours(graph, heads.neighbours.transitions, history, items) * config.neighbour_weight
        total = worth if total is None else total + worth
    return total


def _content(graph: Graph, directions: Value, history: Value, items: Value) -> Value:
    vectors = directions.at(history.at_least(0)) * _recency(graph, history, CONTENT_DECAY).unsqueeze(2)
    return _products(vectors.sum(1).unit(), directions.at(items))


def _neighbours(graph: Graph, transitions: sparse.csr_array, history: Value, items: Value) -> Value:
    """Each event adds its row of the transitions to a row of scores, in which the candidates are looked up."""
    count = transitions.shape[0]
    table = graph.table("neighbours", lambda: _padded_rows(transitions)[0])
    worth = graph.table("neighbours' worth", lambda: _padded_rows(transitions)[1])
    events = history.at_least(0)
    given = worth.at(events) * _recency(graph, history, NEIGHBOUR_DECAY).unsqueeze(2)
    nothing = graph.filled([history.size(0), count + 1], 0.0, np.float32)
    everything = nothing.scattered(table.at(events).flat(1), given.flat(1), 1, reduction="add")
    return everything.along(items, 1)


def _padded_rows(matrix: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N, K) columns and values of each row's entries; column N and value 0 where a row has fewer."""
    lengths = np.diff(matrix.indptr)
    shape = (matrix.shape[0], max(1, int(lengths.max(initial=0))))
    rows = np.repeat(np.arange(shape[0]), lengths)
    places = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], lengths)
    columns, values = np.full(shape, shape[0], dtype=np.int64), np.zeros(shape, dtype=np.float32)
    columns[rows, places], values[rows, places] = matrix.indices, matrix.data
    return columns, values


def _recency(graph: Graph, history: Value, decay: float) -> Value:
    """(B, T) decay to the power of an event's age, zero where padded."""
    events = history.size(1)
    age = (events - 1 - graph.counting(events)).cast(np.float32)
    powers = graph.node("Pow", [graph.constant(decay, np.float32), age], [np.float32])[0]
    return (history >= 0).cast(np.float32) * powers


def _products(queries: Value, vectors: Value) -> Value:
    """(B, D), (B, C, D) → (B, C)."""
    return (vectors @ queries.unsqueeze(2)).squeeze(2)
