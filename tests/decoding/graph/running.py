"""A graph under test, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from asterism.decoding.exports.onnx_graph import onnx_model
from asterism.decoding.graph.ports import Port
from asterism.decoding.graph.values import Graph, Value

Arrays = Mapping[str, NDArray[Any]]


def run(model: onnx.ModelProto, feeds: Arrays) -> list[NDArray[Any]]:
    """All outputs on one thread; an error of the runtime is only raised, not logged too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    found: list[NDArray[Any]] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    return found


def answer(
    inputs: tuple[Port, ...], feeds: Arrays, written: Callable[[Graph, dict[str, Value]], tuple[Port, Value]]
) -> NDArray[Any]:
    """What a graph of one output answers."""
    graph = Graph("tested")
    port, value = written(graph, {one.name: graph.input(one) for one in inputs})
    graph.output(port, value)
    return run(onnx_model(graph, {}), feeds)[0]


def elementwise(values: NDArray[Any], written: Callable[[Value], Value]) -> NDArray[np.int64]:
    """Of values (n,) the whole numbers (n,) that a graph makes of them."""
    kind: Any = values.dtype.name
    ports = (Port("x", kind, ("n",), ""),)
    return answer(ports, {"x": values}, lambda _, x: (Port("y", "int64", ("n",), ""), written(x["x"])))
