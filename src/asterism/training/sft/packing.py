"""Several examples in one row, none of which sees another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.training.sft.example import GIVEN, Example


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows of examples one behind the other, padded on the right."""

    tokens: Tensor  # (R, S) long, 0 where padded
    positions: Tensor  # (R, S) long, from 0 in each example
    examples: Tensor  # (R, S) long, which example of its row a token belongs to, -1 where padded
    asked: Tensor  # (R, S) long, as in `Example`
    targets: Tensor  # (R, S) long
    weights: Tensor  # (R, S) float

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on a device."""
        parts = (self.tokens, self.positions, self.examples, self.asked, self.targets, self.weights)
        return PackedBatch(*(one.to(device) for one in parts))

    @property
    def visible(self) -> Tensor:
        """(R, 1, S, S) True where a token may look: back, within its own example."""
        same = self.examples[:, :, None] == self.examples[:, None, :]
        return (same & torch.ones(same.shape[1:], dtype=torch.bool, device=same.device).tril())[:, None]


def pack(examples: Sequence[Example], row_tokens: int) -> PackedBatch:
    """Put examples into as few rows of `row_tokens` as first-fit finds, longest first; rows grow to the longest one."""
    rows = first_fit(np.array([len(one) for one in examples]), row_tokens)
    width = max(sum(len(examples[place]) for place in row) for row in rows)
    shape = (len(rows), width)
    tokens, positions, targets = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    numbers, asked = np.full(shape, -1, dtype=np.int64), np.full(shape, GIVEN, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    for at, row in enumerate(rows):
        start = 0
        for number, place in enumerate(row):
            one = examples[place]
            where = np.s_[at, start : start + len(one)]
            tokens[where], positions[where], numbers[where] = one.tokens, np.arange(len(one)), number
            asked[where], targets[where], weights[where] = one.asked, one.targets, one.weight
            start += len(one)
    parts = (tokens, positions, numbers, asked, targets, weights)
    return PackedBatch(*(torch.from_numpy(one) for one in parts))


def first_fit(lengths: NDArray[np.integer], capacity: int) -> list[list[int]]:
    """Which examples share a row: the longest first, each into the first row that still has room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for place in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[place])
        row = next((row for row, left in enumerate(room) if left >= length), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(max(capacity, length))
        rows[row].append(place)
        room[row] -= length
    return rows
