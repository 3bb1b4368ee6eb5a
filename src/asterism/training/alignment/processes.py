"""Alignment on several processes: each takes a part of every batch, and all take the same steps.

The processes are those that `torchrun` or `accelerate launch` started; alone, everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from asterism.training.launches import check_whole_weights

T = TypeVar("T")


class Processes:
    """This process among all that align together."""

    def __init__(self) -> None:
        """Raise `TrainingError` where a launcher would cut the weights into parts."""
        check_whole_weights()
        state = PartialState(cpu=not torch.cuda.is_available())
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
