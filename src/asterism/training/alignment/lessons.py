"""What a method of alignment hands to the loop: losses one by one, each with how it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asterism.models.policy import Policy

Rows = NDArray[np.int64]


class Figures(NamedTuple):
    """How the policy does on the questions of a lesson, before it is taken."""

    reward: float  # grpo: mean over items of groups; dpo: share of pairs in the right order
    signal: float  # share of groups whose rewards differ
    kl: float  # to the start, over candidates
    entropy: float  # over candidates


class Lesson(NamedTuple):
    """One optimiser step's loss, a scalar with gradient."""

    loss: Tensor
    figures: Figures


class TrainablePolicy(Policy, Protocol):
    """A policy that is a `torch.nn.Module`; its modes also forget what was kept for answering faster."""

    def train(self, mode: bool = True) -> nn.Module:
        """Dropout on or off."""
        ...

    def eval(self) -> nn.Module:
        """Dropout off."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is learned."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> nn.Module:
        """Whether it is learned."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Take weights."""
        ...


class Method(Protocol):
    """An algorithm of alignment."""

    @property
    def rows(self) -> Rows:
        """The questions that have something to teach."""
        ...

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        """Losses from batches of questions; each is computed with the parameters that the step before it left."""
        ...


def mean(values: Tensor, present: Tensor) -> float:
    """The mean of what is present; 0 where nothing is."""
    return float(torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1))
