"""Alignment on several processes: each takes a part of every batch, and all take the same steps.

The processes are those that `torchrun` or `accelerate launch` started; alone, everything here is the identity.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from asterism.training.launches import wanted_cut

T = TypeVar("T")


class Processes:
    """This process among all that align together."""

    def __init__(self) -> None:
        """Raise `TrainingError` where the launch is for another engine."""
        cut = wanted_cut()
        state = PartialState(cpu=not torch.cuda.is_available())
        self.count: int = state.num_processes
        self.rank: int = state.process_index
        self.main: bool = state.is_main_process
        self.device: torch.device = state.device
        self._cuts_moments = cut is not None and self.count > 1

    def optimizer(self, parameters: Sequence[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
        """AdamW, whose moments are cut over the processes where the launch wants anything cut.

        Roll-outs ask for parts of a policy in an order of their own, so that its weights stay whole.
        """
        if self._cuts_moments:
            return _cut_adamw(parameters, settings)
        return torch.optim.AdamW(parameters, **settings)

    def state_of(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """In the main process all of an optimiser's state; all processes must ask together."""
        if self._cuts_moments:
            optimizer.consolidate_state_dict(to=0)  # type: ignore[attr-defined]
        return optimizer.state_dict() if self.main else {}

    @torch.no_grad()
    def begin_alike(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give each process the main one's values."""
        if self.count > 1:
            for one in parameters:
                torch.distributed.broadcast(one, src=0)

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


def _cut_adamw(parameters: Sequence[nn.Parameter], settings: dict[str, Any]) -> torch.optim.Optimizer:
    """Rajbhandari et al. 2020, the first stage: each process keeps the moments of some parameters, and sends those."""
    with warnings.catch_warnings():  # importing it compiles other optimisers by a compiler that is on its way out
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.distributed.optim import ZeroRedundancyOptimizer
    optimizer: torch.optim.Optimizer = ZeroRedundancyOptimizer(parameters, torch.optim.AdamW, **settings)
    return optimizer
