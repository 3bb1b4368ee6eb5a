"""A graph as an ONNX model."""

from __future__ import annotations

from typing import Final

import onnx
from onnx import helper, numpy_helper

from asterism.core.errors import ModelError
from asterism.decoding.graph.ports import Port
from asterism.decoding.graph.values import Graph, Node

#: Old enough for the servers of 2023, new enough for LayerNormalization and for reductions whose axes are inputs.
OPSET: Final = 18
#: The file format that goes with that opset; a newer one would be refused by older runtimes for no gain.
IR_VERSION: Final = 8
#: Protobuf's limit for one message, less room for the nodes.
LARGEST_BYTES: Final = 2_000_000_000
_TYPES: Final = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL}


def onnx_model(graph: Graph, metadata: dict[str, str]) -> onnx.ModelProto:
    """The finished model, checked; raises `ModelError` where it would not fit into a file."""
    size = sum(one.array.nbytes for one in graph.constants.values())
    if size > LARGEST_BYTES:
        raise ModelError(
            f"the graph {graph.name!r} would hold {size / 1e9:.1f} GB of constants, and an ONNX file holds "
            f"{LARGEST_BYTES / 1e9:.1f} GB at most; train a narrower model or a smaller catalogue, "
            "or serve the bundle with `asterism serve`"
        )
    made = helper.make_graph(
        [_node(one) for one in graph.nodes],
        graph.name,
        [_value_info(port) for port in graph.inputs],
        [_value_info(port) for port in graph.outputs],
        [numpy_helper.from_array(one.array, name) for name, one in graph.constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(made, producer_name="asterism", opset_imports=[opset], ir_version=IR_VERSION)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(node: Node) -> onnx.NodeProto:
    attributes = dict(node.attributes)
    if node.kind == "Cast":
        attributes["to"] = _TYPES[attributes["to"]]
    kind = "MatMul" if node.kind == "RoughMatMul" else node.kind  # a file says nothing of precision
    return helper.make_node(kind, node.inputs, node.outputs, **attributes)


def _value_info(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port.name, _TYPES[port.dtype], list(port.axes))
