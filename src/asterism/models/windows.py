"""Windows over the events that are too old to be read one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.data.sequences import Sequences


@dataclass(frozen=True, slots=True)
class OlderEvents:
    """Older events without padding: row by row, and within a row from its oldest window to its newest."""

    items: Tensor  # (E,) long, dense item index
    counts: Tensor  # (B, S) long, how many of the items belong to each window, oldest window first
    timestamps: Tensor  # (B, S) long, mean of a window's Unix seconds, 0 where it is empty

    @classmethod
    def of(cls, histories: Sequences, max_events: int, max_history: int, summaries: int) -> OlderEvents:
        """The events before the newest `max_events`, of the newest `max_history`, in `summaries` windows.

        The work is linear in the events that are kept.
        """
        starts = np.maximum(histories.offsets[:-1], histories.offsets[1:] - max_history)
        stops = np.maximum(starts, histories.offsets[1:] - max_events)
        older = histories.slices(starts, stops)
        counts = window_counts(older.lengths, window_edges(max_history - max_events, summaries))
        bounds = np.concatenate(([0], np.cumsum(counts)))
        sums = np.concatenate(([0], np.cumsum(older.timestamps)))
        totals = (sums[bounds[1:]] - sums[bounds[:-1]]).reshape(counts.shape)
        return cls(
            torch.from_numpy(older.items.astype(np.int64)),
            torch.from_numpy(counts),
            torch.from_numpy(totals // np.maximum(counts, 1)),
        )

    @classmethod
    def none(cls, rows: int, summaries: int, device: torch.device | str) -> OlderEvents:
        """No older events in any row."""
        empty = torch.zeros(rows, summaries, dtype=torch.long, device=device)
        return cls(empty.new_zeros(0), empty, empty)

    def to(self, device: torch.device | str) -> OlderEvents:
        """The same on a device."""
        return OlderEvents(self.items.to(device), self.counts.to(device), self.timestamps.to(device))


def window_edges(events: int, summaries: int) -> NDArray[np.int64]:
    """(S + 1,) ages, counted in older events from the newest one, between which windows lie.

    Each window is twice as long as the one after it: edge k is events · (2^k − 1) / (2^S − 1), rounded.
    """
    powers = 2.0 ** np.arange(summaries + 1) - 1.0
    edges: NDArray[np.int64] = np.rint(events * powers / powers[-1]).astype(np.int64)
    return edges


def window_counts(lengths: NDArray[np.integer], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, S) events of each window, oldest first, for rows of so many older events (B,)."""
    counts: NDArray[np.int64] = np.clip(lengths[:, None] - edges[:-1], 0, np.diff(edges)).astype(np.int64)
    return counts[:, ::-1].copy()  # torch takes no array that runs backwards
