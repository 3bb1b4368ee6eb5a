"""A graph that torch works out on a device, whatever the lengths of its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from asterism.decoding.captured.operators import OPERATORS
from asterism.decoding.graph.ports import Port
from asterism.decoding.graph.values import Constant, Graph, Node
from asterism.models.ugt.inference import Precision

#: What tells lengths: the host must know them before anything runs.
_OF_LENGTHS: Final = frozenset({"Shape", "Range"})


class DeviceConstants:
    """Arrays on a device, each once for all programs that read it."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._held: dict[bytes, Tensor] = {}
        self._factors: dict[bytes, Tensor] = {}

    def __len__(self) -> int:
        return len(self._held)

    def held(self, constant: Constant) -> Tensor:
        """A constant of a graph."""
        if constant.digest not in self._held:
            self._held[constant.digest] = self._moved(torch.from_numpy(np.array(constant.array)))
        return self._held[constant.digest]

    def factor(self, constant: Constant) -> Tensor:
        """The same in bf16."""
        if constant.digest not in self._factors:
            self._factors[constant.digest] = self.held(constant).to(torch.bfloat16)
        return self._factors[constant.digest]

    def of_host(self, tensor: Tensor) -> Tensor:
        """Something small that the host worked out from lengths alone."""
        key = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.tolist()}".encode()
        if key not in self._held:
            self._held[key] = self._moved(tensor)
        return self._held[key]

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)


class Program:
    """Runs a graph node by node.

    What depends on lengths alone is worked out on the host, and what it tells the device is remembered there: a second
    run with inputs of the same lengths asks nothing of the host and copies nothing, so that it can be captured.
    """

    def __init__(self, graph: Graph, constants: DeviceConstants, precision: Precision = "fp32") -> None:
        self._graph = graph
        self._constants = constants
        self._rounds = precision == "bf16"
        self._on_host = _values_of_lengths(graph)
        self._last_uses = _last_uses(graph)

    @property
    def outputs(self) -> Sequence[Port]:
        """What it answers."""
        return self._graph.outputs

    def run(self, feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs, in the graph's order, of inputs by name."""
        values = dict(feeds)
        for number, node in enumerate(self._graph.nodes):
            found = self.work_out(node, values)
            values.update(zip(node.outputs, found, strict=True))
            for name in self._last_uses.get(number, ()):
                del values[name]
        return [values[port.name] for port in self._graph.outputs]

    def work_out(self, node: Node, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What a node answers."""
        on_host = node.outputs[0] in self._on_host
        return OPERATORS[node.kind](_Arguments(self, node, values, on_host))

    def argument(self, name: str, values: Mapping[str, Tensor], on_host: bool) -> Tensor:
        """A value where a node works on it."""
        constant = self._graph.constants.get(name)
        if constant is not None:
            return torch.from_numpy(np.array(constant.array)) if on_host else self._constants.held(constant)
        if not on_host and name in self._on_host:
            return self._constants.of_host(values[name])
        return values[name]

    def numbers(self, name: str, values: Mapping[str, Tensor]) -> list[int]:
        """A value that the host knows."""
        found: list[int] = self.argument(name, values, True).reshape(-1).tolist()
        return found

    def factor(self, name: str, values: Mapping[str, Tensor], on_host: bool) -> Tensor:
        """A value as one side of a matrix product."""
        if not self._rounds:
            return self.argument(name, values, on_host)
        constant = self._graph.constants.get(name)
        if constant is not None and not on_host:
            return self._constants.factor(constant)
        return self.argument(name, values, on_host).to(torch.bfloat16)


class _Arguments:
    """Implements `operators.Call`."""

    def __init__(self, program: Program, node: Node, values: Mapping[str, Tensor], on_host: bool) -> None:
        self._program, self._node, self._values, self._on_host = program, node, values, on_host

    @property
    def attributes(self) -> Mapping[str, Any]:
        return self._node.attributes

    def tensor(self, place: int) -> Tensor:
        # of a value whose lengths are asked only lengths are read, wherever it lies
        name, on_host = self._node.inputs[place], self._on_host and self._node.kind != "Shape"
        return self._program.argument(name, self._values, on_host)

    def factor(self, place: int) -> Tensor:
        return self._program.factor(self._node.inputs[place], self._values, self._on_host)

    def numbers(self, place: int) -> list[int]:
        return self._program.numbers(self._node.inputs[place], self._values)

    def __len__(self) -> int:
        return len(self._node.inputs)


def _values_of_lengths(graph: Graph) -> frozenset[str]:
    """The values that follow from lengths and constants alone; what is spread out over a length is not worth it."""
    found: set[str] = set()
    for node in graph.nodes:
        variable = [name for name in node.inputs if name not in graph.constants]
        follows = bool(variable) and found.issuperset(variable) and node.kind != "Expand"
        if node.kind in _OF_LENGTHS or follows:
            found.update(node.outputs)
    return frozenset(found)


def _last_uses(graph: Graph) -> dict[int, list[str]]:
    """By the number of a node the values that nothing reads after it."""
    kept = {port.name for port in (*graph.inputs, *graph.outputs)}
    last: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        last.update(dict.fromkeys(_variables(graph, (*node.inputs, *node.outputs)), number))
    uses: dict[int, list[str]] = {}
    for name, number in last.items():
        if name not in kept:
            uses.setdefault(number, []).append(name)
    return uses


def _variables(graph: Graph, names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in graph.constants]
