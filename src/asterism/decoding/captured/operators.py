"""The operators of `decoding.graph` by torch: none reads a value on the host, and shapes follow from shapes alone.

What ONNX defines means the same here. Two are more: `SearchSorted` and `TopByKey`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_TYPES: Final = {"float32": torch.float32, "int64": torch.int64, "int32": torch.int32, "bool": torch.bool}
_LOW: Final = (1 << 32) - 1
_HIGHEST: Final = (1 << 31) - 1


class Call(Protocol):
    """The arguments of one call."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Of the node."""
        ...

    def tensor(self, place: int) -> Tensor:
        """An argument as it is worked on."""
        ...

    def factor(self, place: int) -> Tensor:
        """The same as one side of a rough matrix product."""
        ...

    def numbers(self, place: int) -> list[int]:
        """An argument that shapes depend on, so that the host knows it."""
        ...

    def __len__(self) -> int:
        """How many arguments there are."""
        ...


Operator = Callable[[Call], tuple[Tensor, ...]]


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda call: (function(call.tensor(0)),)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda call: (function(call.tensor(0), call.tensor(1)),)


def _div(left: Tensor, right: Tensor) -> Tensor:
    return torch.div(left, right) if left.is_floating_point() else torch.div(left, right, rounding_mode="trunc")


def _rough_matmul(call: Call) -> tuple[Tensor, ...]:
    return (torch.matmul(call.factor(0), call.factor(1)).float(),)


def _cast(call: Call) -> tuple[Tensor, ...]:
    return (call.tensor(0).to(_TYPES[call.attributes["to"]]),)


def _expand(call: Call) -> tuple[Tensor, ...]:
    value = call.tensor(0)
    return (value.broadcast_to(np.broadcast_shapes(tuple(value.shape), tuple(call.numbers(1)))),)


def _reshape(call: Call) -> tuple[Tensor, ...]:
    value, asked = call.tensor(0), call.numbers(1)
    return (value.reshape([value.shape[place] if size == 0 else size for place, size in enumerate(asked)]),)


def _unsqueeze(call: Call) -> tuple[Tensor, ...]:
    value, axes = call.tensor(0), call.numbers(1)
    rank = value.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        value = value.unsqueeze(axis)
    return (value,)


def _squeeze(call: Call) -> tuple[Tensor, ...]:
    return (call.tensor(0).squeeze(tuple(call.numbers(1))),)


def _slice(call: Call) -> tuple[Tensor, ...]:
    value = call.tensor(0)
    for start, stop, axis in zip(call.numbers(1), call.numbers(2), call.numbers(3), strict=True):
        first, end, _ = slice(start, stop).indices(value.shape[axis])
        value = value.narrow(axis, first, end - first)
    return (value,)


def _gather(call: Call) -> tuple[Tensor, ...]:
    value, places, axis = call.tensor(0), call.tensor(1), call.attributes["axis"]
    found = value.index_select(axis, places.flatten())
    return (found.reshape(value.shape[:axis] + places.shape + value.shape[axis + 1 :]),)


def _gather_elements(call: Call) -> tuple[Tensor, ...]:
    return (call.tensor(0).gather(call.attributes["axis"], call.tensor(1)),)


def _scatter_elements(call: Call) -> tuple[Tensor, ...]:
    value, places, given, axis = call.tensor(0), call.tensor(1), call.tensor(2), call.attributes["axis"]
    if call.attributes["reduction"] == "add":
        return (value.scatter_add(axis, places, given),)
    return (value.scatter(axis, places, given),)


def _reduce_sum(call: Call) -> tuple[Tensor, ...]:
    return (call.tensor(0).sum(tuple(call.numbers(1)), keepdim=bool(call.attributes["keepdims"])),)


def _reduce_min(call: Call) -> tuple[Tensor, ...]:
    return (call.tensor(0).amin(tuple(call.numbers(1)), keepdim=bool(call.attributes["keepdims"])),)


def _reduce_l2(call: Call) -> tuple[Tensor, ...]:
    axes = tuple(call.numbers(1))
    return (torch.linalg.vector_norm(call.tensor(0), dim=axes, keepdim=bool(call.attributes["keepdims"])),)


def _cumsum(call: Call) -> tuple[Tensor, ...]:
    return (call.tensor(0).cumsum(call.numbers(1)[0]),)


def _layer_norm(call: Call) -> tuple[Tensor, ...]:
    value = call.tensor(0)
    scale, shift = call.tensor(1), call.tensor(2)
    return (functional.layer_norm(value, value.shape[-1:], scale, shift, call.attributes["epsilon"]),)


def _concat(call: Call) -> tuple[Tensor, ...]:
    return (torch.cat([call.tensor(place) for place in range(len(call))], dim=call.attributes["axis"]),)


def _where(call: Call) -> tuple[Tensor, ...]:
    return (torch.where(call.tensor(0), call.tensor(1), call.tensor(2)),)


def _shape(call: Call) -> tuple[Tensor, ...]:
    start, stop = call.attributes.get("start", 0), call.attributes.get("end")
    return (torch.tensor(list(call.tensor(0).shape)[start:stop], dtype=torch.long),)


def _range(call: Call) -> tuple[Tensor, ...]:
    (start,), (stop,), (step,) = (call.numbers(place) for place in range(3))
    return (torch.arange(start, stop, step),)


def _top_k(call: Call) -> tuple[Tensor, ...]:
    scores = call.tensor(0)
    places = torch.arange(scores.shape[-1], device=scores.device)
    return _best(scores, places, call.numbers(1)[0])


def _top_by_key(call: Call) -> tuple[Tensor, ...]:
    return _best(call.tensor(0), call.tensor(1), call.numbers(2)[0])


def _best(scores: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest of the last axis and where they stand, of equal ones the lowest key in 0 … 2³² − 1 first; NaN leads.

    A device's own selection promises no order of equal ones; the order of a float's bits, and the key below them, leave
    none that are equal.
    """
    bits = (scores + 0.0).view(torch.int32)  # no zero below zero
    ascending = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).masked_fill(scores.isnan(), _HIGHEST)
    ordered = (ascending.long() << 32) + (_LOW - keys)
    places = ordered.topk(count, dim=-1).indices
    return scores.gather(-1, places), places


def _search_sorted(call: Call) -> tuple[Tensor, ...]:
    """How many of the ascending numbers (B, X) lie below each of (B, M)."""
    return (torch.searchsorted(call.tensor(0).contiguous(), call.tensor(1).contiguous()),)


OPERATORS: Final[dict[str, Operator]] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Cast": _cast,
    "Concat": _concat,
    "CumSum": _cumsum,
    "Div": _binary(_div),
    "Equal": _binary(torch.eq),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "Identity": _unary(lambda value: value),
    "IsNaN": _unary(torch.isnan),
    "LayerNormalization": _layer_norm,
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "LogSoftmax": _unary(lambda value: value.log_softmax(-1)),
    "MatMul": _binary(torch.matmul),
    "Max": _binary(torch.maximum),
    "Min": _binary(torch.minimum),
    "Mod": _binary(torch.remainder),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Pow": _binary(torch.pow),
    "Range": _range,
    "ReduceL2": _reduce_l2,
    "ReduceMin": _reduce_min,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "SearchSorted": _search_sorted,
    "RoughMatMul": _rough_matmul,
    "Shape": _shape,
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _unary(lambda value: value.softmax(-1)),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "TopByKey": _top_by_key,
    "TopK": _top_k,
    "Transpose": lambda call: (call.tensor(0).permute(call.attributes["perm"]),),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
