"""The whole search asks nothing of the host, whatever the model reads; equal scores keep their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asterism.config import DecodingConfig
from asterism.decoding.captured.answer_graph import answer_graph
from asterism.decoding.captured.program import DeviceConstants, Program
from asterism.decoding.graph.ports import Port
from asterism.decoding.graph.search import Search
from asterism.decoding.graph.values import Graph, Value
from asterism.models.ugt.inference import Precision
from decoding.captured.pretended_gpu import run_twice
from decoding.graph.small_bundle import ITEMS, heads, model
from models.small_ugt import EVERYTHING

SWITCHES: dict[str, dict[str, object]] = {
    "plain": {},
    "pooled": {"recency_pooling": True},
    "everything": {**EVERYTHING, "recency_pooling": True},
}
LENGTHS = {"batch": 8, "events": 5, "older_events": 15, "attributes": 2, "gone": 64, "places": 3 * (ITEMS + 1)}


def graph_of(**switches: object) -> Graph:
    weights = {"code_weight": 0.4, "content_weight": 1.5, "neighbour_weight": 3.0}
    search = Search(10, "rescored", DecodingConfig(beam=10, kept=6, **weights), heads())
    return answer_graph(model(**switches), search, {})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_a_second_run_copies_nothing_and_no_run_reads_a_value(
    switches: dict[str, object], precision: Precision
) -> None:
    found, copies = run_twice(graph_of(**switches), LENGTHS, precision)
    assert [(one.device.type, tuple(one.shape)) for one in found] == [
        ("cuda", (8, 10)),
        ("cuda", (8, 10)),
        ("cuda", (8,)),
    ]
    assert copies[0] > 50
    assert copies[1] == 0


def test_a_value_that_the_host_would_read_is_seen() -> None:
    """The pretended device would notice: a length that follows from values."""
    graph = Graph("reads")
    count = graph.input(Port("count", "int64", ("batch",), ""))
    graph.output(Port("out", "int64", ("n",), ""), graph.counting(count.sum(0)))
    with pytest.raises(Exception, match=r"DataDependent|data-dependent|_local_scalar_dense|fake"):
        run_twice(graph, {"batch": 3}, "fp32")


FLOATS = st.floats(width=32, allow_nan=False)


@given(st.lists(st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf])), min_size=1, max_size=20))
def test_the_best_are_in_order_and_of_equal_ones_the_first_stands_first(values: list[float]) -> None:
    scores = np.array([values], dtype=np.float32)
    best, places = ran(scores, lambda _, value: value.best(len(values)))
    wanted = sorted(range(len(values)), key=lambda place: (-float(scores[0, place]), place))
    assert places[0].tolist() == wanted
    np.testing.assert_array_equal(best[0], scores[0, wanted])


@given(st.permutations(range(9)), st.lists(st.sampled_from([0.5, -0.5, 0.0, -0.0]), min_size=9, max_size=9))
def test_of_equal_ones_the_lower_key_stands_first(keys: list[int], values: list[float]) -> None:
    def best(graph: Graph, scores: Value) -> list[Value]:
        asked = [scores, graph.constant(np.array([keys])), graph.constant([4])]
        return graph.node("TopByKey", asked, [np.float32, np.int64])

    found, places = ran(np.array([values], dtype=np.float32), best)
    wanted = sorted(range(9), key=lambda place: (-values[place], keys[place]))[:4]
    assert places[0].tolist() == wanted
    assert found[0].tolist() == [values[place] for place in wanted]


def test_rough_products_alone_are_rounded_to_bf16() -> None:
    graph = Graph("product")
    left = graph.input(Port("left", "float32", ("batch", 2), ""))
    right = graph.constant(np.array([[1.0], [1.0]], dtype=np.float32))
    graph.output(Port("sum", "float32", ("batch",), ""), left.sum(1))
    graph.output(Port("product", "float32", ("batch", 1), ""), left @ right)
    graph.output(Port("rough", "float32", ("batch", 1), ""), left.rough_product(right))
    feeds = {"left": torch.tensor([[1.001, 0.0]])}
    exact, rounded = (Program(graph, DeviceConstants("cpu"), one).run(feeds) for one in ("fp32", "bf16"))
    assert [one.item() for one in exact] == pytest.approx([1.001, 1.001, 1.001])
    assert [one.item() for one in rounded] == pytest.approx([1.001, 1.001, 1.0])


def test_programs_share_what_is_equal() -> None:
    held = DeviceConstants("cpu")
    table = np.arange(6.0, dtype=np.float32)
    found = []
    for name in ("one", "other"):
        graph = Graph(name)
        place = graph.input(Port("place", "int64", (1,), ""))
        graph.output(Port("value", "float32", (1,), ""), graph.constant(table.copy()).at(place))
        found.append(Program(graph, held).run({"place": torch.tensor([4])})[0].item())
    assert found == [4.0, 4.0]
    assert len(held) == 1


def test_graphs_of_a_model_make_its_tables_once() -> None:
    tables: dict[str, np.ndarray] = {}
    graphs = [
        answer_graph(model(), Search(width, "rescored", DecodingConfig(beam=width), heads()), tables)
        for width in (4, 16)
    ]
    first, second = ({id(one.array) for one in graph.constants.values()} for graph in graphs)
    assert {id(one) for one in tables.values()} <= first & second
    assert {"items as events", "item directions", "items by path"} <= set(tables)


def ran(scores: np.ndarray, written: object) -> list[np.ndarray]:
    graph = Graph("tested")
    values, places = written(graph, graph.input(Port("scores", "float32", ("batch", scores.shape[1]), "")))  # type: ignore[operator]
    graph.output(Port("values", "float32", ("batch", "k"), ""), values)
    graph.output(Port("places", "int64", ("batch", "k"), ""), places)
    found = Program(graph, DeviceConstants("cpu")).run({"scores": torch.from_numpy(scores)})
    return [one.numpy() for one in found]
