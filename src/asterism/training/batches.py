"""From training sequences to batches in which every position is an example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import TrainingError
from asterism.data.preferences import PreferencePairs
from asterism.data.sequences import Sequences
from asterism.models.policy import HistoryBatch, HistoryLayout
from asterism.training.course import EpochBatches

#: Batches shuffled together before they are sorted by length: more of them waste less padding.
_POOL_BATCHES = 20


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Histories, and for each of their positions the item that came next."""

    histories: HistoryBatch
    targets: Tensor  # (B, T) long item index, -1 where there is nothing to learn
    rejected: Tensor | None = None  # (B, T, R) long, items that the user liked less than the target; -1 where padded
    preference_weights: Tensor | None = None  # (B, T) float, value of what was done to the target

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch on a device."""
        return TrainingBatch(
            self.histories.to(device),
            self.targets.to(device),
            None if self.rejected is None else self.rejected.to(device),
            None if self.preference_weights is None else self.preference_weights.to(device),
        )


def make_batch(
    sequences: Sequences,
    rows: NDArray[np.integer],
    layout: HistoryLayout | int,
    pairs: PreferencePairs | None = None,
) -> TrainingBatch:
    """Shift each row by one event: input e_1 … e_{n-1}, targets e_2 … e_n; the newest `max_events` pairs are kept."""
    layout = HistoryLayout(layout) if isinstance(layout, int) else layout
    padded = HistoryBatch.from_sequences(sequences.take(rows), layout.with_target())
    inputs = padded.without_newest()
    targets = torch.where(inputs.mask, padded.items[:, 1:], -1)
    if pairs is None:
        return TrainingBatch(inputs, targets)
    width = targets.shape[1]
    events = sequences.offsets[rows + 1][:, None] + np.arange(-width, 0)  # what stands in padding is not asked
    rejected = torch.from_numpy(pairs.rejected[events].astype(np.int64))
    return TrainingBatch(inputs, targets, rejected, torch.from_numpy(pairs.weights[events]))


def target_counts(sequences: Sequences, max_events: int, catalogue_size: int) -> Tensor:
    """(items,) how often an epoch of `make_batch` over the trainable rows asks for each item."""
    asked = sequences.take(trainable_rows(sequences)).last(max_events + 1).items
    return torch.from_numpy(np.bincount(asked, minlength=catalogue_size))


def trainable_rows(sequences: Sequences) -> NDArray[np.int64]:
    """Rows with at least two events: something to see and something to predict; raises `TrainingError` without any."""
    rows = np.flatnonzero(sequences.lengths >= 2)
    if len(rows) == 0:
        raise TrainingError("no user has two training events, so there is nothing to predict; give more data")
    return rows


class LengthBucketedBatches(EpochBatches):
    """Batches of row numbers, shuffled anew each epoch, alike in length within a batch.

    The order depends on the seed and the epoch alone, so that a resumed run sees what an
    uninterrupted one would have seen.
    """

    def __init__(self, lengths: NDArray[np.integer], rows: NDArray[np.integer], batch_rows: int, seed: int) -> None:
        self.lengths = lengths
        self.rows = rows
        self.batch_rows = batch_rows
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_rows)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        batches: list[NDArray[np.integer]] = []
        shuffled = random.permutation(self.rows)
        pool = self.batch_rows * _POOL_BATCHES
        for start in range(0, len(shuffled), pool):
            part = shuffled[start : start + pool]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[at : at + self.batch_rows] for at in range(0, len(part), self.batch_rows)]
        for index in random.permutation(len(batches)):
            yield batches[index].tolist()
