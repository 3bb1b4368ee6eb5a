"""The search inside a graph finds what the generator finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from asterism.config import DecodingConfig
from asterism.data.sequences import Sequences
from asterism.decoding import Generator, recommend_exhaustively
from asterism.decoding.exports.graphs import EXCLUDED
from asterism.decoding.graph import code_levels
from asterism.decoding.graph.columns import columns_of
from asterism.decoding.graph.encoder import encode
from asterism.decoding.graph.over_catalogue import recommend_all_but
from asterism.decoding.graph.ports import Port, history_ports
from asterism.decoding.graph.search import Search
from asterism.decoding.graph.values import Graph
from asterism.models.ugt import UGT
from decoding.graph.running import run_graph
from decoding.graph.small_bundle import ITEMS, heads, histories, model, table

WEIGHTS = {"code_weight": 0.4, "content_weight": 1.5, "neighbour_weight": 3.0}
LENGTHS = [3, 0, 5, 1, 9, 5, 4, 2]


def graph_of(one: UGT, search: Search) -> Graph:
    graph = Graph("recommend")
    columns = {port.name: graph.input(port) for port in history_ports(one.shape.model)}
    excluded = graph.input(EXCLUDED)
    state = encode(graph, one, columns)
    found = recommend_all_but(graph, one, state, columns["items"], excluded, search)
    graph.output(Port("recommended", "int64", ("batch", search.k), ""), found.items)
    graph.output(Port("scores", "float32", ("batch", search.k), ""), found.scores)
    return graph


def answered(one: UGT, search: Search, rows: Sequences, excluded: NDArray[np.int64]) -> list[NDArray[Any]]:
    return run_graph(graph_of(one, search), columns_of(rows, one.shape.model) | {"excluded": excluded})


@pytest.mark.parametrize("mode", ["rescored", "generate", "rank"])
@pytest.mark.parametrize(("beam", "k"), [(1, 1), (3, 2), (7, 10), (200, 10), (20, 70)])
def test_it_answers_as_the_generator(mode: Any, beam: int, k: int) -> None:
    """Narrow beams among them, and answers longer than the catalogue."""
    one, rows = model(), histories(LENGTHS)
    search = Search(k, mode, DecodingConfig(beam=beam, **WEIGHTS), heads())
    excluded = np.random.default_rng(1).integers(-1, ITEMS, (len(rows), 25))
    generator = Generator(one, table(), search.decoding, heads=search.heads)
    wanted = generator.recommend(rows, k, excluded=[row[row >= 0] for row in excluded], mode=mode)
    items, scores = answered(one, search, rows, excluded)
    np.testing.assert_array_equal(items, wanted.items)
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("few", [0.0, 1e9])
def test_children_alone_are_scored_as_with_all_nodes(few: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level one way, then the other."""
    monkeypatch.setattr(code_levels, "_FEW", few)
    test_it_answers_as_the_generator("generate", 7, 10)


@pytest.mark.parametrize("code_weight", [0.0, 0.4])
@pytest.mark.parametrize(("kept", "k"), [(8, 5), (3, 5), (25, 5), (8, 70)])
def test_only_what_the_item_head_keeps_is_ordered_by_all_heads(kept: int, k: int, code_weight: float) -> None:
    one, rows = model(), histories(LENGTHS)
    decoding = DecodingConfig(beam=20, kept=kept, **(WEIGHTS | {"code_weight": code_weight}))
    search = Search(k, "rescored", decoding, heads())
    generator = Generator(one, table(), decoding, heads=search.heads)
    excluded = np.full((len(rows), ITEMS), -1)
    excluded[-1, : ITEMS - 6] = np.arange(ITEMS - 6)  # a row with fewer than are kept
    wanted = generator.recommend(rows, k, excluded=[row[row >= 0] for row in excluded])
    items, scores = answered(one, search, rows, excluded)
    np.testing.assert_array_equal(items, wanted.items)
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-4, atol=1e-4)


def test_as_wide_as_the_catalogue_it_is_the_slow_twin() -> None:
    one, rows = model(recency_pooling=True), histories(LENGTHS)
    search = Search(10, "generate", DecodingConfig(beam=ITEMS), heads())
    items, _ = answered(one, search, rows, np.full((len(rows), 1), -1))
    wanted = recommend_exhaustively(one, table(), rows, 10, search.decoding, excluded=[[]] * len(rows), mode="generate")
    np.testing.assert_array_equal(items, wanted.items)


@pytest.mark.parametrize("mode", ["rescored", "generate", "rank"])
def test_of_equal_scores_the_lower_item_index_stands_first(mode: Any) -> None:
    """Without vectors all siblings and all items are alike."""
    one, rows = model(), histories([4, 0])
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if name.startswith(("items.", "decoder.vectors", "turn", "decoder.turns")):
                parameter.zero_()
    search = Search(12, mode, DecodingConfig(beam=30), heads())
    items, _ = answered(one, search, rows, np.array([[2, 7], [-1, -1]]))
    generator = Generator(one, table(), search.decoding)
    wanted = generator.recommend(rows, 12, excluded=[[2, 7], []], mode=mode)
    np.testing.assert_array_equal(items, wanted.items)


@pytest.mark.parametrize("mode", ["rescored", "generate", "rank"])
def test_a_row_with_little_left_gets_that_and_then_nothing(mode: Any) -> None:
    one, rows = model(), histories([3, 3])
    left = {0: [5, 41], 1: []}
    excluded = np.full((2, ITEMS), -1)
    for row, kept in left.items():
        gone = [item for item in range(ITEMS) if item not in kept]
        excluded[row, : len(gone)] = gone
    items, scores = answered(one, Search(4, mode, DecodingConfig(beam=2), heads()), rows, excluded)
    assert sorted(items[0, :2].tolist()) == [5, 41]
    assert items[0, 2:].tolist() == [-1, -1]
    assert items[1].tolist() == [-1] * 4
    assert np.isneginf(scores[0, 2:]).all()
    assert np.isneginf(scores[1]).all()


def test_a_row_answers_as_it_would_alone() -> None:
    one, rows = model(), histories(LENGTHS)
    search = Search(6, "rescored", DecodingConfig(beam=9, **WEIGHTS), heads())
    graph = graph_of(one, search)
    feeds = columns_of(rows, one.shape.model) | {"excluded": np.full((len(rows), 1), -1)}
    together = run_graph(graph, feeds)[0]
    for row in range(len(rows)):
        alone = run_graph(graph, {name: value[row : row + 1] for name, value in feeds.items()})[0]
        np.testing.assert_array_equal(alone[0], together[row])
