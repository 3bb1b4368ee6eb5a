"""The encoder's graph answers what the model answers, with every switch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from asterism.data.sequences import Sequences
from asterism.decoding.graph.columns import columns_of
from asterism.decoding.graph.encoder import encode
from asterism.decoding.graph.ports import Port, history_ports
from asterism.decoding.graph.values import Graph
from asterism.models.ugt import UGT
from decoding.graph.running import run_graph
from models.small_ugt import EVERYTHING, MAX_EVENTS, batch_of, full_sequences, make_model

SWITCHES: list[dict[str, object]] = [
    {},
    {"actions": True},
    {"values": True},
    {"time_gaps": True},
    {"contexts": True},
    {"asked": True},
    {"asked": True, "contexts": True},
    {"user_attributes": True},
    {"group_norm": True},
    {"group_norm": True, "actions": True, "user_attributes": True},
    {"experts": 1},
    {"experts": 4, "expert_top_k": 1},
    {"experts": 4, "expert_top_k": 2, "blocks": 1},
    {"summaries": 3, "max_history": 20},
    {"summaries": 2, "max_history": 9, "group_norm": True},
    {"recency_pooling": True},
    {"id_vectors": False},
    {"content": False},
    {"heads": 4, "blocks": 3},
    {**EVERYTHING, "recency_pooling": True},
]
NAMES = ["+".join(switch) if len(switch) < 4 else "everything" for switch in SWITCHES]


def graph_of(model: UGT) -> Graph:
    graph = Graph("encoder")
    columns = {port.name: graph.input(port) for port in history_ports(model.shape.model)}
    width = model.shape.model.width * (1 if model.pooling is None else 2)
    graph.output(Port("state", "float32", ("batch", width), ""), encode(graph, model, columns))
    return graph


def assert_equal(model: UGT, graph: Graph, sequences: Sequences) -> None:
    with torch.inference_mode():
        wanted = model.encode(batch_of(model, sequences)).numpy()
    found = run_graph(graph, columns_of(sequences, model.shape.model))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_states_are_the_models(switch: dict[str, object]) -> None:
    model = make_model(**switch)
    graph = graph_of(model)
    for lengths in ([3, 0, 25, 1, 9, 5], [0], [1], [30], [6, 4], [0, 0, 0]):
        assert_equal(model, graph, full_sequences(lengths, seed=sum(lengths)))


def test_what_a_history_does_not_tell_is_missing() -> None:
    model = make_model(**EVERYTHING)
    full = full_sequences([4, 9, 0])
    assert_equal(model, graph_of(model), Sequences(full.offsets, full.items, full.timestamps, full.actions))
    assert_equal(model, graph_of(model), replace(full, scenes=None, asked=None))


@pytest.mark.parametrize("switch", [{"group_norm": True}, {"recency_pooling": True}, {"user_attributes": True}])
def test_a_history_longer_than_the_model_reads_is_refused(switch: dict[str, object]) -> None:
    model = make_model(**switch)
    feeds: dict[str, Any] = columns_of(full_sequences([MAX_EVENTS]), model.shape.model)
    graph = graph_of(model)
    run_graph(graph, feeds)
    for name in ("items", "timestamps"):
        feeds[name] = np.concatenate([feeds[name][:, :1], feeds[name]], axis=1)
    with pytest.raises(Exception, match=r"(?i)out of (data )?bounds|out of range|within the inclusive range"):
        run_graph(graph, feeds)


def test_more_padding_changes_nothing() -> None:
    model = make_model(**EVERYTHING)
    config = model.shape.model
    feeds = columns_of(full_sequences([2, 1]), config)
    wider = {}
    for port in history_ports(config):
        column, missing = feeds[port.name], np.nan if port.name == "values" else -1 if "items" in port.name else 0
        grown = len(port.axes) == 2 and port.axes[1] != "attributes"
        wider[port.name] = np.pad(column, ((0, 0), (2, 0)), constant_values=missing) if grown else column
    graph = graph_of(model)
    np.testing.assert_allclose(run_graph(graph, wider)[0], run_graph(graph, feeds)[0], rtol=1e-4, atol=2e-5)
