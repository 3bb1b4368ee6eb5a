"""A CUDA device without one: tensors that know their lengths, their types and where they would lie, but no value.

Whoever asks such a tensor for a value, or puts one of the host beside it, gets an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from asterism.decoding.captured.program import DeviceConstants, Program
from asterism.decoding.graph.ports import Port
from asterism.decoding.graph.values import Graph, Node
from asterism.models.ugt.inference import Precision

_TYPES = {"int32": torch.int32, "int64": torch.int64, "float32": torch.float32}


class PretendedGPU(DeviceConstants):
    """Counts what is copied to it."""

    def __init__(self) -> None:
        super().__init__("cuda")
        self.copies = 0

    def of_host(self, tensor: Tensor) -> Tensor:
        with _disable_current_modes():
            key = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.tolist()}".encode()
        if key not in self._held:
            self._held[key] = self._moved(tensor)
        return self._held[key]

    def _moved(self, tensor: Tensor) -> Tensor:
        self.copies += 1
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)


class PretendedProgram(Program):
    """Keeps the host's own arithmetic on lengths real."""

    def work_out(self, node: Node, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        if node.outputs[0] not in self._on_host:
            return super().work_out(node, values)
        if node.kind != "Shape":
            with _disable_current_modes():
                return super().work_out(node, values)
        lengths = list(values[node.inputs[0]].shape)[node.attributes.get("start") : node.attributes.get("end")]
        with _disable_current_modes():
            return (torch.tensor(lengths),)

    def numbers(self, name: str, values: Mapping[str, Tensor]) -> list[int]:
        with _disable_current_modes():
            return super().numbers(name, values)


def run_twice(graph: Graph, lengths: Mapping[str, int], precision: Precision) -> tuple[list[Tensor], list[int]]:
    """The outputs of the second run, and how often each run copied something to the device."""
    with FakeTensorMode():
        held = PretendedGPU()
        program = PretendedProgram(graph, held, precision)
        copies = []
        for _ in range(2):
            before = held.copies
            found = program.run(_inputs(graph.inputs, lengths))
            copies.append(held.copies - before)
    return found, copies


def _inputs(ports: Sequence[Port], lengths: Mapping[str, int]) -> dict[str, Tensor]:
    shapes = {one: [lengths[axis] if isinstance(axis, str) else axis for axis in one.axes] for one in ports}
    return {one.name: torch.empty(shape, dtype=_TYPES[one.dtype], device="cuda") for one, shape in shapes.items()}
