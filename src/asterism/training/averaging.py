"""A moving average of the weights, which recommends better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asterism.training.sharded import cut_like, whole

#: Of the first steps the average forgets this much faster, so that it does not keep the initial weights.
_WARM_UP_STEPS = 10


class WeightAverage:
    """θ̄ ← d θ̄ + (1 − d) θ after each step (Polyak and Juditsky 1992, with exponential forgetting).

    d = min(1 − 1 / horizon, t / (t + 10)) at step t. It can be checkpointed.
    """

    def __init__(self, model: nn.Module, horizon: float) -> None:
        """`horizon`: over about how many of the newest steps is averaged; below 1 the weights are taken as they are.

        Of a model that is cut over processes, each averages its part.
        """
        self._parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.horizon = horizon
        self.averages = {name: one.detach().clone() for name, one in self._parameters.items()} if self.on else {}

    @property
    def on(self) -> bool:
        """Whether anything is averaged."""
        return self.horizon >= 1

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, the first of which is 1."""
        if self.on:
            decay = min(1 - 1 / self.horizon, step / (step + _WARM_UP_STEPS))
            torch._foreach_lerp_(list(self.averages.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averages meanwhile."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        """By content, since a cut parameter's storage belongs to its layer."""
        for name, average in self.averages.items():
            weights = self._parameters[name].detach().clone()
            self._parameters[name].copy_(average)
            average.copy_(weights)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the names of the weights, whole."""
        return {name: whole(average) for name, average in self.averages.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take averages that were written before, from whatever device."""
        self.averages = {name: cut_like(average, self._parameters[name]) for name, average in state.items()}
