"""The history encoder as padded dense arithmetic: the trained weights, no jagged rows, no choice by data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.decoding.graph.circumstances import with_circumstances
from asterism.decoding.graph.heads import item_directions
from asterism.decoding.graph.layers import feed_forward, group_norm, layer_norm, linear, rows_of, token_norm, weights
from asterism.decoding.graph.thresholds import gap_buckets, hash_buckets
from asterism.decoding.graph.values import Graph, Value
from asterism.models.ugt import UGT
from asterism.models.ugt.attention import PointwiseAttentionBlock, RelativeBias
from asterism.models.ugt.experts import FeedForward
from asterism.models.windows import window_edges

_NEVER = np.iinfo(np.int64).max
_NOTHING = -1e9  # a score whose softmax is zero, and stays a number where a row has nothing else


class Tokens(NamedTuple):
    """Columns of all rows: the user, windows of older events, the events, as far as the model has them."""

    states: Value  # (B, L, D); at padded places they mean nothing
    timestamps: Value  # (B, L) long, Unix seconds
    present: Value  # (B, L) bool
    groups: Value  # (L,) long, which norm a column takes


class _Keys(NamedTuple):
    """What attention reads of all tokens, for each of the q that ask."""

    places: Value  # (q, L) long, rows of the table of positions
    gaps: Value  # (B, q, L) long, time buckets
    visible: Value  # (B, 1, q, L) float, one or zero

    def of_newest(self) -> _Keys:
        return _Keys(self.places.newest(0), self.gaps.newest(1), self.visible.newest(2))


def encode(graph: Graph, model: UGT, columns: Mapping[str, Value]) -> Value:
    """The inputs of `history_ports` by name → (B, S) states; of a row without events the start state.

    Equal to `UGT.encode` up to rounding. Of the last block only the newest token is worked out. Items enter as rows of
    tables that are summed up beforehand.
    """
    items = columns["items"]
    present = items >= 0
    start = _start(graph, model, columns)
    tokens = _tokens(graph, model, columns, start)
    state = layer_norm(model.norm, _newest_state(model, tokens).squeeze(1))
    starts = layer_norm(model.norm, start)
    if model.pooling is not None:
        pooled = _pooled(graph, model, items, present)
        state, starts = graph.concat([state, pooled], -1), graph.concat([starts, starts * 0.0], -1)
    known = present.cast(np.int64).sum(1, keep=True) > 0
    return graph.where(known, state, starts)


def _start(graph: Graph, model: UGT, columns: Mapping[str, Value]) -> Value:
    """(1, D) or (B, D) what stands for users before their first event."""
    start, user = graph.constant(weights(model.start)[None]), model.prefix.user
    if user is None:
        return start
    codes = columns["attributes"]
    known = (codes > 0).cast(np.float32).unsqueeze(-1)
    total = (rows_of(user.vectors, hash_buckets(codes)) * known).sum(1)
    return start + (total if user.norm is None else group_norm(user.norm, total, 0))


def _tokens(graph: Graph, model: UGT, columns: Mapping[str, Value], start: Value) -> Tokens:
    items, times = columns["items"], columns["timestamps"]
    vectors = _event_vectors(graph, model).at(items.at_least(0))
    events = with_circumstances(graph, model.events, vectors, columns)
    tokens = Tokens(events, times, items >= 0, graph.filled([items.size(1)], 0, np.int64))
    if model.prefix.windows is not None:
        tokens = _joined(graph, _window_tokens(graph, model, columns), tokens)
    if model.prefix.user is not None:
        oldest = graph.where(tokens.present, tokens.timestamps, _NEVER).least(1)
        here = oldest.equals(oldest)
        tokens = _joined(graph, Tokens(start.unsqueeze(1), oldest, here, graph.constant([1])), tokens)
    return tokens


def _event_vectors(graph: Graph, model: UGT) -> Value:
    """(N, D) what an item enters as."""

    def made() -> NDArray[np.float32]:
        with torch.no_grad():
            vectors = model.items.all()
            return weights(vectors if model.seen is None else vectors + model.seen.weight)

    return graph.table("items as events", made)


def _window_tokens(graph: Graph, model: UGT, columns: Mapping[str, Value]) -> Tokens:
    windows, config = model.prefix.windows, model.shape.model
    assert windows is not None
    items, times = columns["older_items"], columns["older_timestamps"]
    edges = window_edges(config.max_history - config.max_events, config.summaries)[::-1, None]
    events = items.size(1)
    age = events - 1 - graph.counting(events)
    of_window = (age >= graph.constant(edges[1:])) & (age < graph.constant(edges[:-1]))  # (S, E), the oldest first
    inside = of_window.unsqueeze(0) & (items >= 0).unsqueeze(1)
    counts = inside.cast(np.int64).sum(-1)
    fullest = counts.at_least(1)
    vectors = _event_vectors(graph, model).at(items.at_least(0))
    means = inside.cast(np.float32) @ vectors / fullest.cast(np.float32).unsqueeze(-1)
    if windows.norm is not None:
        means = group_norm(windows.norm, means, 0)
    total = (inside.cast(np.int64) * times.unsqueeze(1)).sum(-1)
    groups = graph.constant(np.full(config.summaries, model.prefix.groups - 1))
    return Tokens(means + graph.constant(weights(windows.window.weight)), total / fullest, counts > 0, groups)


def _joined(graph: Graph, first: Tokens, rest: Tokens) -> Tokens:
    states, times, present = (graph.concat(pair, 1) for pair in zip(first[:3], rest[:3], strict=True))
    return Tokens(states, times, present, graph.concat([first.groups, rest.groups], 0))


def _newest_state(model: UGT, tokens: Tokens) -> Value:
    """(B, 1, D) what the blocks make of the newest token."""
    states, groups, keys = tokens.states, tokens.groups, _keys(tokens, model.prefix.columns)
    for depth, block in enumerate(model.blocks):
        assert isinstance(block, PointwiseAttentionBlock)
        last = depth == len(model.blocks) - 1
        states = _attended(block, states, groups, keys.of_newest() if last else keys, last)
        groups = groups.newest(0) if last else groups
        if len(model.feed_forwards):
            layer = model.feed_forwards[depth]
            assert isinstance(layer, FeedForward)
            states = feed_forward(layer, states, groups)
    return states


def _keys(tokens: Tokens, prefix: int) -> _Keys:
    """Positions index a table that begins with the prefix's, so that too long a history points beyond its end."""
    graph, times = tokens.states.graph, tokens.timestamps
    order = graph.counting(times.size(1))
    query, key = order.unsqueeze(1), order.unsqueeze(0)
    places = graph.where(key < prefix, key, (query - key).at_least(0) + prefix)
    gaps = gap_buckets((times.unsqueeze(2) - times.unsqueeze(1)).at_least(0))
    visible = (key <= query).unsqueeze(0) & tokens.present.unsqueeze(1)
    return _Keys(places, gaps, visible.cast(np.float32).unsqueeze(1))


def _attended(block: PointwiseAttentionBlock, states: Value, groups: Value, keys: _Keys, newest: bool) -> Value:
    """(B, L, D) → (B, q, D), what it is added to included."""
    width, heads = block.contract.in_features, block.heads
    expanded = linear(block.expand, token_norm(block.norm, states, groups), rough=True).silu()

    def share(number: int) -> Value:
        return expanded.part(number * width, (number + 1) * width, -1)

    def by_head(number: int) -> Value:
        return share(number).reshape(0, 0, heads, width // heads).transpose(0, 2, 1, 3)

    value, query, key, gate = by_head(1), by_head(2), by_head(3), share(0)
    if newest:
        query, gate, states = query.newest(2), gate.newest(1), states.newest(1)
    scores = query.rough_product(key.transpose(0, 1, 3, 2)) + _bias(block.bias, keys)
    shares = scores.silu() * (keys.visible * (1 / block.max_tokens))
    attended = shares.rough_product(value)
    normed = layer_norm(block.norm_attended, attended.transpose(0, 2, 1, 3).reshape(0, 0, width))
    return states + linear(block.contract, normed * gate, rough=True)


def _bias(bias: RelativeBias, keys: _Keys) -> Value:
    """(B, H, q, L)."""
    graph, position = keys.places.graph, weights(bias.position)
    table = position if bias.prefix is None else np.concatenate([weights(bias.prefix), position], axis=1)
    of_time = graph.constant(weights(bias.time).T).at(keys.gaps).transpose(0, 3, 1, 2)
    return graph.constant(table).at(keys.places, axis=1).unsqueeze(0) + of_time


def _pooled(graph: Graph, model: UGT, items: Value, present: Value) -> Value:
    """(B, D) the weighted mean of the events' directions; too long a history points beyond the table of weights."""
    assert model.pooling is not None
    events = items.size(1)
    scores = graph.constant(weights(model.pooling.scores)).at(events - 1 - graph.counting(events))
    shares = graph.where(present, scores.unsqueeze(0), _NOTHING).softmax()
    mean = shares.unsqueeze(1) @ item_directions(graph, model).at(items.at_least(0))
    return mean.squeeze(1) * float(model.pooling.gain.detach())
