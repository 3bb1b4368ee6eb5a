"""What a method of alignment hands to the loop: losses one by one, each with how it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asterism.data.sequences import Cases
from asterism.models.policy import LimitsRows, Policy, read_histories

Rows = NDArray[np.int64]

_ROWS_AT_ONCE = 256


class Figures(NamedTuple):
    """How the policy does on the questions of a lesson, before it is taken."""

    reward: float  # grpo: mean over items of groups; dpo: share of pairs in the right order
    signal: float  # share of groups whose rewards differ
    kl: float  # to the start, over candidates
    entropy: float  # over candidates


class Lesson(NamedTuple):
    """One optimiser step's loss, a scalar with gradient: the mean over this process' share of the step."""

    loss: Tensor
    weight: float  # of that share: what the mean was divided by
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
        """What is learned, and what is frozen."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same by name, each once."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> nn.Module:
        """Whether it is learned."""
        ...


class Method(Protocol):
    """An algorithm of alignment."""

    @property
    def rows(self) -> Rows:
        """The questions that have something to teach."""
        ...

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        """Losses from batches of questions; each is computed with the parameters that the step before it left.

        When it asks for a batch, `state_dict` holds all that going on from there needs.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What has gathered since the first lesson: tensors, numbers, and lists and dictionaries of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        ...


def encoded(policy: Policy, cases: Cases) -> Tensor:
    """(B, D) states of the users, on the policy's device."""
    device = next(policy.parameters()).device if isinstance(policy, nn.Module) else torch.device("cpu")
    return policy.encode(read_histories(policy, cases.histories).to(device))


def rows_at_once(policy: Policy) -> int:
    """How many questions are asked together where no gradient is wanted."""
    return min(_ROWS_AT_ONCE, policy.rows_at_once) if isinstance(policy, LimitsRows) else _ROWS_AT_ONCE


def mean(values: Tensor, present: Tensor) -> float:
    """The mean of what is present; 0 where nothing is."""
    return float(torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1))
