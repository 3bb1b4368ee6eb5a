"""What the loop is given to teach: a model, its loss, and the batches of one epoch after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.utils.data import Sampler


class Batch(Protocol):
    """What one step learns from."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        ...


class EpochBatches(Sampler[list[int]]):
    """Batches of example numbers; their order depends on a seed and on `epoch`, which the loop sets."""

    epoch: int = 0

    def __len__(self) -> int:
        """How many batches an epoch has, whichever epoch it is."""
        raise NotImplementedError


class Size(NamedTuple):
    """How much of a batch was learned from."""

    events: int  # or tokens, where the model reads these
    positions: int  # that attention saw, padding among them


@dataclass(frozen=True, slots=True)
class Course:
    """A model and all that one optimiser step on it needs."""

    model: nn.Module
    objective: nn.Module  # a batch → a NamedTuple of scalars, of which `total` is minimised
    batches: EpochBatches
    examples: int  # that batches number
    make_batch: Callable[[list[int]], Any]  # a `Batch` that `objective` takes
    size: Callable[[Any], Size]
    layers: Sequence[nn.Module]  # of the model, computed one after another, each by its own `forward` alone
