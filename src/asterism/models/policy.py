"""The policy port: all that decoding, evaluation, alignment and serving know of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from asterism.data.sequences import Sequences


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """Histories as padded tensors, right-aligned so that column -1 is each user's newest event.

    A row without events is allowed: the policy answers with its prior.
    """

    items: Tensor  # (B, T) long, dense item index, -1 where padded
    timestamps: Tensor  # (B, T) long, Unix seconds, 0 where padded
    actions: Tensor  # (B, T) long, codes of core.records.ACTIONS, 0 where padded

    @classmethod
    def from_sequences(cls, histories: Sequences, max_events: int) -> HistoryBatch:
        """Keep each row's newest `max_events` events and pad on the left; T is at least 1."""
        recent = histories.last(max_events)
        lengths = recent.lengths
        width = max(1, int(lengths.max(initial=0)))
        rows = np.repeat(np.arange(len(recent)), lengths)
        columns = np.arange(recent.events) - np.repeat(recent.offsets[1:], lengths) + width
        return cls(
            items=_scatter(recent.items, rows, columns, (len(recent), width), fill=-1),
            timestamps=_scatter(recent.timestamps, rows, columns, (len(recent), width), fill=0),
            actions=_scatter(recent.actions, rows, columns, (len(recent), width), fill=0),
        )

    def __len__(self) -> int:
        return self.items.shape[0]

    @property
    def mask(self) -> Tensor:
        """(B, T) True where there is an event."""
        return self.items >= 0

    def to(self, device: torch.device | str) -> HistoryBatch:
        """The same batch on a device."""
        return HistoryBatch(self.items.to(device), self.timestamps.to(device), self.actions.to(device))


class Policy(Protocol):
    """A generative model over semantic ids with an item-level score from the same state."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, coarse to fine, the de-duplication level included."""
        ...

    @property
    def max_events(self) -> int:
        """How many newest events of a history the model reads."""
        ...

    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, D) user states."""
        ...

    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        """Log-probabilities of the next level's codes, not yet constrained to the catalogue.

        `state` (B, D); `prefixes` (B, W, l) long, the codes of the first l levels of W beams;
        returns (B, W, codebook_sizes[l]), each row summing to one in probability.
        """
        ...

    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Item-level scores: (B, N) over the whole catalogue, or (B, C) for candidates `items` (B, C) long."""
        ...


def _scatter(
    values: np.ndarray[tuple[int], np.dtype[np.integer]],
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    columns: np.ndarray[tuple[int], np.dtype[np.int64]],
    shape: tuple[int, int],
    fill: int,
) -> Tensor:
    out = np.full(shape, fill, dtype=np.int64)
    out[rows, columns] = values
    return torch.from_numpy(out)
