"""The graphs of a bundle: which there are, what each reads and answers, and what is written into its metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

import onnx

from asterism import __version__
from asterism.core.errors import RequestError
from asterism.core.records import ACTIONS
from asterism.decoding.exports.onnx_graph import onnx_model
from asterism.decoding.graph.code_levels import CodeLevel, find
from asterism.decoding.graph.encoder import encode
from asterism.decoding.graph.heads import all_item_scores, code_state, item_scores
from asterism.decoding.graph.over_catalogue import recommend_all_but
from asterism.decoding.graph.ports import BATCH, Port, history_ports
from asterism.decoding.graph.search import Search
from asterism.decoding.graph.values import Graph, Value
from asterism.decoding.loading import TrainedRecommender
from asterism.decoding.recommendations import Mode, check_request

EXCLUDED: Final = Port("excluded", "int64", (BATCH, "excluded"), "item index of what is left out; -1 where padded")
_STATE_MEANING: Final = "what the encoder answers"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the graph `recommend` does."""

    k: int = 10  # items in an answer
    mode: Mode = "rescored"
    beam: int | None = None  # None: the bundle's
    exclude_history: bool = True  # the items of the inputs are left out; older ones only if `excluded` tells them

    def check(self) -> None:
        """Raise `RequestError` on a senseless option."""
        check_request(self.k, self.mode)
        if self.beam is not None and self.beam < 1:
            raise RequestError(f"a beam of {self.beam} finds nothing; make it at least 1")


Writer = Callable[[], onnx.ModelProto]


def graphs_of(trained: TrainedRecommender, options: ExportOptions) -> dict[str, Writer]:
    """What writes each graph, by name: `encoder`, `codes_0` …, `items`, `catalogue`, `recommend`.

    Raises `RequestError` on a senseless option and `ModelError` where the bundle's model is no UGT.
    """
    options.check()
    levels = range(len(trained.ugt.codebook_sizes))
    return {
        "encoder": lambda: _encoder(trained),
        **{f"codes_{level}": _codes_writer(trained, level) for level in levels},
        "items": lambda: _items(trained),
        "catalogue": lambda: _catalogue(trained),
        "recommend": lambda: _recommend(trained, options),
    }


def decoding_of(trained: TrainedRecommender, options: ExportOptions) -> Search:
    """What the graph `recommend` searches with."""
    decoding = trained.config.decoding
    if options.beam is not None:
        decoding = decoding.model_copy(update={"beam": options.beam})
    return Search(options.k, options.mode, decoding, trained.generator.heads)


def _encoder(trained: TrainedRecommender) -> onnx.ModelProto:
    graph = Graph("encoder")
    graph.output(_state_port(trained), encode(graph, trained.ugt, _history(graph, trained)))
    return _finished(graph, trained)


def _codes_writer(trained: TrainedRecommender, level: int) -> Writer:
    return lambda: _codes(trained, level)


def _codes(trained: TrainedRecommender, number: int) -> onnx.ModelProto:
    graph, model = Graph(f"codes_{number}"), trained.ugt
    state = graph.input(_state_port(trained))
    level = CodeLevel(graph, model, number)
    width: str | int = 1
    if number == 0:  # the empty prefix need not be told
        parents = (state.part(0, 1, 1) * 0.0).cast("int64")
        known = parents >= 0
    else:
        meaning = f"the first {number} codes of each beam"
        prefixes = graph.input(Port("prefixes", "int64", (BATCH, "beams", number), meaning))
        parents, known = find([CodeLevel(graph, model, one) for one in range(number)], prefixes)
        width = "beams"
    log_probs = level.whole_log_probs(code_state(model, state), parents, known)
    axes = (BATCH, width, level.size)
    graph.output(Port("log_probs", "float32", axes, f"log p(code of level {number} | prefix, state)"), log_probs)
    return _finished(graph, trained)


def _items(trained: TrainedRecommender) -> onnx.ModelProto:
    graph = Graph("items")
    state = graph.input(_state_port(trained))
    candidates = graph.input(Port("candidates", "int64", (BATCH, "candidates"), "item index"))
    scores = item_scores(graph, trained.ugt, state, candidates)
    graph.output(Port("scores", "float32", (BATCH, "candidates"), "item score of each candidate"), scores)
    return _finished(graph, trained)


def _catalogue(trained: TrainedRecommender) -> onnx.ModelProto:
    graph = Graph("catalogue")
    scores = all_item_scores(graph, trained.ugt, graph.input(_state_port(trained)))
    graph.output(Port("scores", "float32", (BATCH, trained.ugt.items.count), "item score of every item"), scores)
    return _finished(graph, trained)


def _recommend(trained: TrainedRecommender, options: ExportOptions) -> onnx.ModelProto:
    graph, model = Graph("recommend"), trained.ugt
    columns = _history(graph, trained)
    excluded = graph.input(EXCLUDED)
    if options.exclude_history:
        seen = [columns[name] for name in ("items", "older_items") if name in columns]
        excluded = graph.concat([*seen, excluded], 1)
    search, state = decoding_of(trained, options), encode(graph, model, columns)
    found = recommend_all_but(graph, model, state, columns["items"], excluded, search)
    graph.output(Port("recommended", "int64", (BATCH, options.k), "item index, best first; -1 for none"), found.items)
    graph.output(Port("scores", "float32", (BATCH, options.k), "what the items are ordered by"), found.scores)
    weights = search.decoding.model_dump(exclude={"choose_weights"})
    return _finished(graph, trained, {"options": json.dumps(asdict(options)), "decoding": json.dumps(weights)})


def _history(graph: Graph, trained: TrainedRecommender) -> dict[str, Value]:
    return {port.name: graph.input(port) for port in history_ports(trained.ugt.shape.model)}


def _state_port(trained: TrainedRecommender) -> Port:
    model = trained.ugt
    width = model.shape.model.width * (1 if model.pooling is None else 2)
    return Port("state", "float32", (BATCH, width), _STATE_MEANING)


def _finished(graph: Graph, trained: TrainedRecommender, more: dict[str, str] | None = None) -> onnx.ModelProto:
    return onnx_model(graph, {**dict(_metadata(graph, trained)), **(more or {})})


def _metadata(graph: Graph, trained: TrainedRecommender) -> Iterator[tuple[str, str]]:
    bundle, model = trained.bundle, trained.ugt
    yield "asterism", __version__
    yield "graph", graph.name
    yield "bundle", bundle.version
    yield "catalogue", str(bundle.fact("items_hash"))
    yield "semantic_ids", str(bundle.fact("semantic_ids_hash"))
    yield "items", str(model.items.count)
    yield "codebook_sizes", json.dumps(list(model.codebook_sizes))
    yield "max_events", str(model.max_events)
    yield "max_history", str(model.shape.model.events_read)
    yield "actions", json.dumps([action.value for action in ACTIONS])
    yield "inputs", json.dumps({port.name: port.meaning for port in graph.inputs})
    yield "outputs", json.dumps({port.name: port.meaning for port in graph.outputs})
