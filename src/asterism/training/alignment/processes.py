"""Alignment on several processes: each takes a part of every batch, and all take the same steps.

The processes are those that `torchrun` or `accelerate launch` started; alone, everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn

from asterism.core.errors import TrainingError

T = TypeVar("T")

#: Weights are whole in each process, since roll-outs ask for parts of a model in an order of their own.
_WHOLE = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class Processes:
    """This process among all that align together."""

    def __init__(self) -> None:
        """Raise `TrainingError` where a launcher would cut the weights into parts."""
        state = PartialState(cpu=not torch.cuda.is_available())
        if state.distributed_type not in _WHOLE:
            raise TrainingError(
                f"alignment keeps whole weights in each process, and this launch is {state.distributed_type}; "
                "use configs/distributed/ddp.yaml"
            )
        self.count: int = state.num_processes
        self.rank: int = state.process_index
        self.main: bool = state.is_main_process
        self.device: torch.device = state.device

    def share(self, count: int) -> slice:
        """This process' part of `count` things; where there are fewer than processes, each has them all."""
        if count < self.count:
            return slice(0, count)
        return slice(count * self.rank // self.count, count * (self.rank + 1) // self.count)

    def gathered(self, part: T, count: int) -> Sequence[T]:
        """The parts of all processes, in the order of `share(count)`."""
        return [part] if self.count == 1 or count < self.count else gather_object([part])

    def sums(self, values: Tensor) -> Tensor:
        """Sums over the processes of a tensor on the CPU."""
        if self.count == 1:
            return values
        total = values.to(self.device)
        torch.distributed.all_reduce(total)
        return total.cpu()

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give each parameter the sum of all processes' gradients."""
        if self.count == 1:
            return
        for one in parameters:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
            torch.distributed.all_reduce(one.grad)
