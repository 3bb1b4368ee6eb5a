"""The graph of an answer: a history's encoder, all levels of the search, and the order of what was found."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

from asterism.decoding.captured.by_place import ByPlace, Rows
from asterism.decoding.graph.encoder import encode
from asterism.decoding.graph.ports import BATCH, Port, history_ports
from asterism.decoding.graph.search import Search, Sizes, recommend
from asterism.decoding.graph.values import Graph
from asterism.models.ugt import UGT

BEFORE: Final = Port("before", "int32", ("places",), "by slot, how many allowed items stand before each place")
SLOTS: Final = Port("slots", "int64", (BATCH,), "the slot that a row's items are allowed by")
GONE: Final = Port(
    "gone", "int32", (BATCH, "gone"), "places that a row leaves out, ascending; else the number of items"
)
WIDTHS: Final = Port("widths", "int64", (BATCH,), "of the beam")
COUNTS: Final = Port("counts", "int64", (BATCH,), "how many items are wanted")
UNORDERED: Final = Port("unordered", "int64", (BATCH,), "how many scores of a row are no numbers")


def answer_graph(model: UGT, search: Search, tables: dict[str, NDArray[Any]]) -> Graph:
    """For beams of up to `search.width` and as many items a row: `items` and `scores` (B, search.k), best first.

    `tables` is shared by the model's graphs.
    """
    graph = Graph(f"answers of {search.k} by a beam of {search.width}", tables)
    columns = {port.name: graph.input(port) for port in history_ports(model.shape.model)}
    before, slots, gone, widths, counts = (graph.input(port) for port in (BEFORE, SLOTS, GONE, WIDTHS, COUNTS))
    permitted = ByPlace(graph, model.items.count, Rows(before, slots, gone))
    state = encode(graph, model, columns)
    found = recommend(graph, model, state, columns["items"], permitted, search, Sizes(widths, counts))
    graph.output(Port("items", "int64", (BATCH, search.k), "item index; -1 for none"), found.items)
    graph.output(Port("scores", "float32", (BATCH, search.k), "what the items are ordered by"), found.scores)
    assert permitted.unordered is not None
    graph.output(UNORDERED, permitted.unordered)
    return graph
