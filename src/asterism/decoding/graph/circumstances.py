"""What was done with an item, when, where and how, added to the events of padded rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from asterism.decoding.graph.layers import group_norm, rows_of
from asterism.decoding.graph.thresholds import gap_buckets, hash_buckets, value_buckets
from asterism.decoding.graph.values import Graph, Value
from asterism.models.ugt.buckets import VALUE_BUCKETS
from asterism.models.ugt.events import EventTokens

Columns = Mapping[str, Value]


def with_circumstances(graph: Graph, events: EventTokens, items: Value, columns: Columns) -> Value:
    """(B, T, D) vectors of the events' items → (B, T, D) events, as `EventTokens` makes them."""
    parts = [items]
    if events.action:
        parts.append(_summed(events.action, _action_places(graph, events, columns)))
    if events.context:
        parts.append(_summed(events.context, _context_places(graph, events, columns)))
    if events.norm is not None:
        parts = [group_norm(events.norm, part, group) for group, part in enumerate(parts)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _action_places(graph: Graph, events: EventTokens, columns: Columns) -> Columns:
    """(B, T) rows in the tables of the action group."""
    places = {"kind": columns["actions"]}
    if "value" in events.action:
        bucket = value_buckets(columns["values"])
        places["value"] = graph.where(bucket > 0, columns["actions"] * VALUE_BUCKETS + bucket, 0)
    return places


def _context_places(graph: Graph, events: EventTokens, columns: Columns) -> Columns:
    """(B, T) rows in the tables of the context group."""
    times, places = columns["timestamps"], {}
    if "gap" in events.context:
        before = graph.where(columns["items"] >= 0, times, -1)
        none = before.newest(1) * 0 - 1
        places["gap"] = _gap_places(graph, graph.concat([none, before], 1).part(0, -1, 1), times)
    if "asked_gap" in events.context:
        places["asked_gap"] = _gap_places(graph, times, _next(graph, times, columns["asked_timestamps"]))
    for name in ("scene", "device"):
        if name in events.context:
            places[name] = hash_buckets(columns[f"{name}s"])
        if f"asked_{name}" in events.context:
            places[f"asked_{name}"] = hash_buckets(_next(graph, columns[f"{name}s"], columns[f"asked_{name}s"]))
    return places


def _summed(tables: nn.ModuleDict, places: Columns) -> Value:
    total: Value | None = None
    for name, table in tables.items():
        assert isinstance(table, nn.Embedding)
        rows = rows_of(table, places[name])
        total = rows if total is None else total + rows
    assert total is not None
    return total


def _gap_places(graph: Graph, earlier: Value, later: Value) -> Value:
    """0 where one of the moments is not known (-1), else 1 + the bucket of the gap."""
    known = (earlier >= 0) & (later >= 0)
    return graph.where(known, gap_buckets((later - earlier).at_least(0)) + 1, 0)


def _next(graph: Graph, column: Value, asked: Value) -> Value:
    """(B, T) what is said of the event after each, of the request after the newest."""
    return graph.concat([column, asked.unsqueeze(1)], 1).part(1, np.iinfo(np.int64).max, 1)
