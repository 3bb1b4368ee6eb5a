"""A graph under test, run by ONNX Runtime and by torch, which must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from asterism.decoding.captured.program import DeviceConstants, Program
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


def run_graph(graph: Graph, feeds: Arrays) -> list[NDArray[Any]]:
    """What ONNX Runtime answers, and torch too up to rounding: whole numbers and what is no number alike."""
    wanted = run(onnx_model(graph, {}), feeds)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    found = [one.numpy() for one in Program(graph, DeviceConstants("cpu")).run(tensors)]
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4 if ours.dtype.kind == "f" else 0, atol=2e-5)
    return wanted


def answer(
    inputs: tuple[Port, ...], feeds: Arrays, written: Callable[[Graph, dict[str, Value]], tuple[Port, Value]]
) -> NDArray[Any]:
    """What a graph of one output answers."""
    graph = Graph("tested")
    port, value = written(graph, {one.name: graph.input(one) for one in inputs})
    graph.output(port, value)
    return run_graph(graph, feeds)[0]


def elementwise(values: NDArray[Any], written: Callable[[Value], Value]) -> NDArray[np.int64]:
    """Of values (n,) the whole numbers (n,) that a graph makes of them."""
    kind: Any = values.dtype.name
    ports = (Port("x", kind, ("n",), ""),)
    return answer(ports, {"x": values}, lambda _, x: (Port("y", "int64", ("n",), ""), written(x["x"])))
