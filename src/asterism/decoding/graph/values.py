"""A computation written down node by node: values with a type, and the operators that recommending needs.

The operators are ONNX's, by name and by meaning, so that a graph can become a file for any runtime, but for
`RoughMatMul`, a MatMul; who runs graphs otherwise may know more of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from asterism.decoding.graph.ports import Port

_SHORTEST: Final = 1e-6  # a length to divide by that half precision, too, tells from zero


class Node(NamedTuple):
    """One call of an operator."""

    kind: str
    inputs: tuple[str, ...]  # names of values
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Constant(NamedTuple):
    """An array, and what tells it from all others."""

    array: NDArray[Any]
    digest: bytes


class Graph:
    """A graph that grows; equal constants are kept once."""

    def __init__(self, name: str, tables: dict[str, NDArray[Any]] | None = None) -> None:
        """`tables` are those of graphs of the same model, by name; it gets what this one makes."""
        self.name = name
        self._tables = {} if tables is None else tables
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self._named: dict[bytes, Value] = {}

    def input(self, port: Port) -> Value:
        """A new input."""
        self.inputs.append(port)
        return Value(self, port.name, np.dtype(port.dtype))

    def output(self, port: Port, value: Value) -> None:
        """Name a value as an output."""
        self.outputs.append(port)
        self.nodes.append(Node("Identity", (value.name,), (port.name,), {}))

    def constant(self, values: ArrayLike, dtype: DTypeLike | None = None) -> Value:
        """A value that no input changes; an array must not change any more."""
        array = np.asarray(values, dtype=dtype, order="C")  # a number stays without axes
        digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
        return self._held(array, digest.digest())

    def table(self, name: str, make: Callable[[], NDArray[Any]]) -> Value:
        """A constant that is dear to make, known by a name: what others of that name hold is not compared."""
        if name not in self._tables:
            self._tables[name] = np.ascontiguousarray(make())
        return self._held(self._tables[name], name.encode())

    def _held(self, array: NDArray[Any], digest: bytes) -> Value:
        if digest not in self._named:
            name = f"constant_{len(self.constants)}"
            self.constants[name] = Constant(array, digest)
            self._named[digest] = Value(self, name, array.dtype)
        return self._named[digest]

    def node(self, kind: str, inputs: Sequence[Value], dtypes: Sequence[DTypeLike], **attributes: Any) -> list[Value]:
        """Outputs of an operator, by their types."""
        names = tuple(f"{kind}_{len(self.nodes)}_{place}" for place in range(len(dtypes)))
        self.nodes.append(Node(kind, tuple(one.name for one in inputs), names, attributes))
        return [Value(self, name, np.dtype(dtype)) for name, dtype in zip(names, dtypes, strict=True)]

    def where(self, condition: Value, yes: Value | float, no: Value | float) -> Value:
        """Elementwise choice; a number takes the other's type."""
        like = yes if isinstance(yes, Value) else no
        assert isinstance(like, Value)
        pair = [one if isinstance(one, Value) else self.constant(one, like.dtype) for one in (yes, no)]
        return self.node("Where", [condition, *pair], [like.dtype])[0]

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values side by side."""
        return self.node("Concat", values, [values[0].dtype], axis=axis)[0]

    def counting(self, stop: Value) -> Value:
        """0, 1, … below the scalar `stop`."""
        return self.node("Range", [self.constant(0), stop, self.constant(1)], [np.int64])[0]

    def filled(self, lengths: Sequence[Value | int], value: float, dtype: DTypeLike) -> Value:
        """One value in the shape of scalar lengths."""
        axes = [one.reshape(1) if isinstance(one, Value) else self.constant([one]) for one in lengths]
        return self.constant(value, dtype).expand(self.concat(axes, 0))


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of a graph. Numbers beside it take its type; shapes follow NumPy's rules of broadcasting."""

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def _op(self, kind: str, *others: Value | ArrayLike, dtype: DTypeLike | None = None, **attributes: Any) -> Value:
        inputs = [one if isinstance(one, Value) else self.graph.constant(one, self.dtype) for one in others]
        return self.graph.node(kind, [self, *inputs], [self.dtype if dtype is None else dtype], **attributes)[0]

    def __add__(self, other: Value | float) -> Value:
        return self._op("Add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._op("Sub", other)

    def __mul__(self, other: Value | float) -> Value:
        return self._op("Mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._op("Div", other)

    def __mod__(self, other: int) -> Value:
        return self._op("Mod", other)

    def __matmul__(self, other: Value) -> Value:
        return self._op("MatMul", other)

    def rough_product(self, other: Value) -> Value:
        """A matrix product whose factors may have fewer bits where whoever runs the graph is told so."""
        return self._op("RoughMatMul", other)

    def __neg__(self) -> Value:
        return self._op("Neg")

    def __ge__(self, other: Value | float) -> Value:
        return self._op("GreaterOrEqual", other, dtype=np.bool_)

    def __gt__(self, other: Value | float) -> Value:
        return self._op("Greater", other, dtype=np.bool_)

    def __lt__(self, other: Value | float) -> Value:
        return self._op("Less", other, dtype=np.bool_)

    def __le__(self, other: Value | float) -> Value:
        return self._op("LessOrEqual", other, dtype=np.bool_)

    def __and__(self, other: Value) -> Value:
        return self._op("And", other)

    def equals(self, other: Value | float) -> Value:
        """Elementwise equality."""
        return self._op("Equal", other, dtype=np.bool_)

    def is_nan(self) -> Value:
        """Elementwise."""
        return self._op("IsNaN", dtype=np.bool_)

    def at_least(self, other: float) -> Value:
        """Elementwise maximum."""
        return self._op("Max", other)

    def at_most(self, other: float) -> Value:
        """Elementwise minimum."""
        return self._op("Min", other)

    def magnitude(self) -> Value:
        """Elementwise absolute value."""
        return self._op("Abs")

    def silu(self) -> Value:
        """x · sigmoid(x)."""
        return self * self._op("Sigmoid")

    def cast(self, dtype: DTypeLike) -> Value:
        """The same as another type."""
        return self._op("Cast", dtype=dtype, to=np.dtype(dtype).name)

    def size(self, axis: int) -> Value:
        """The length of an axis, a scalar."""
        return self._op("Shape", dtype=np.int64, start=axis, end=axis + 1).reshape()

    def reshape(self, *shape: int) -> Value:
        """0 keeps the length at its place, -1 takes what is left; without arguments a scalar."""
        return self._with_axes("Reshape", shape)

    def shaped_like(self, other: Value) -> Value:
        """The same elements in another's shape."""
        return self._op("Reshape", other._op("Shape", dtype=np.int64))

    def expand(self, shape: Value) -> Value:
        """Broadcast to a shape."""
        return self._op("Expand", shape)

    def unsqueeze(self, *axes: int) -> Value:
        """New axes of length one."""
        return self._with_axes("Unsqueeze", axes)

    def squeeze(self, *axes: int) -> Value:
        """Without these axes of length one."""
        return self._with_axes("Squeeze", axes)

    def transpose(self, *order: int) -> Value:
        """Axes in another order."""
        return self._op("Transpose", perm=order)

    def flat(self, axis: int) -> Value:
        """The last two of `axis` + 2 axes as one."""
        return self.reshape(*[0] * axis, -1)

    def at(self, places: Value, axis: int = 0) -> Value:
        """Rows, or what else lies along an axis, by their numbers."""
        return self._op("Gather", places, axis=axis)

    def along(self, places: Value, axis: int) -> Value:
        """Elements along an axis, row by row."""
        return self._op("GatherElements", places, axis=axis)

    def scattered(self, places: Value, values: Value, axis: int, reduction: str = "none") -> Value:
        """The same with elements along an axis replaced, or added to, row by row."""
        return self._op("ScatterElements", places, values, axis=axis, reduction=reduction)

    def part(self, start: int, stop: int, axis: int) -> Value:
        """A run along an axis; negative numbers count from its end."""
        graph = self.graph
        return self._op("Slice", graph.constant([start]), graph.constant([stop]), graph.constant([axis]))

    def newest(self, axis: int) -> Value:
        """The last one along an axis, which stays."""
        return self.part(-1, np.iinfo(np.int64).max, axis)

    def sum(self, *axes: int, keep: bool = False) -> Value:
        """Over axes."""
        return self._with_axes("ReduceSum", axes, keepdims=int(keep))

    def least(self, axis: int) -> Value:
        """The minimum along an axis, which stays with length one."""
        return self._with_axes("ReduceMin", (axis,), keepdims=1)

    def running_sum(self, axis: int) -> Value:
        """Up to and with each element."""
        return self._op("CumSum", self.graph.constant(axis))

    def softmax(self) -> Value:
        """Over the last axis."""
        return self._op("Softmax", axis=-1)

    def log_softmax(self) -> Value:
        """Over the last axis."""
        return self._op("LogSoftmax", axis=-1)

    def unit(self) -> Value:
        """Divided by the length of the last axis's vectors; zeros stay zeros."""
        return self / self._with_axes("ReduceL2", (-1,), keepdims=1).at_least(_SHORTEST)

    def layer_norm(self, scale: NDArray[np.float32], shift: NDArray[np.float32], epsilon: float) -> Value:
        """Over the last axis."""
        return self._op("LayerNormalization", scale, shift, axis=-1, epsilon=epsilon)

    def best(self, count: int) -> tuple[Value, Value]:
        """The largest of the last axis and where they stand; of equal ones the first."""
        wanted = self.graph.constant([count])
        values, places = self.graph.node("TopK", [self, wanted], [self.dtype, np.int64], axis=-1, largest=1, sorted=1)
        return values, places

    def _with_axes(self, kind: str, axes: Sequence[int], **attributes: Any) -> Value:
        return self._op(kind, self.graph.constant(axes, np.int64), **attributes)
