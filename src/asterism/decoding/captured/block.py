"""Tensors of a batch that go to a device, or come from it, in one copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.decoding.graph.ports import Port

_TYPES: Final = {"int32": torch.int32, "int64": torch.int64, "float32": torch.float32}
_ALIGNED: Final = 256  # bytes, to which a device's own allocator aligns


class Block:
    """The same bytes on the host and on a device, and views of them by the ports' names; their places never change."""

    def __init__(
        self, ports: Sequence[Port], lengths: Mapping[str | int, int], device: torch.device, *, pinned: bool
    ) -> None:
        """`lengths` tells those of named axes; what is `pinned` is copied without the processor."""
        shapes = {port: tuple(lengths[axis] if isinstance(axis, str) else axis for axis in port.axes) for port in ports}
        places: dict[Port, slice] = {}
        size = 0
        for port, shape in shapes.items():
            taken = torch.Size(shape).numel() * _TYPES[port.dtype].itemsize
            places[port] = slice(size, size + taken)
            size += -(-taken // _ALIGNED) * _ALIGNED
        self._host = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)
        self._device = torch.zeros(size, dtype=torch.uint8, device=device)

        def views(block: Tensor) -> dict[str, Tensor]:
            return {one.name: block[places[one]].view(_TYPES[one.dtype]).view(shapes[one]) for one in ports}

        self.device = views(self._device)
        self.host: dict[str, NDArray[Any]] = {name: view.numpy() for name, view in views(self._host).items()}

    def send(self) -> None:
        """From the host to the device, in the order of the device's queue."""
        self._device.copy_(self._host, non_blocking=True)

    def fetch(self) -> None:
        """From the device to the host; to be waited for."""
        self._host.copy_(self._device, non_blocking=True)
