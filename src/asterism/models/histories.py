"""Histories as tensors: newest events padded, older ones flat, and what is known of the moment of asking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.data.sequences import Asked, Sequences
from asterism.models.windows import OlderEvents


@dataclass(frozen=True, slots=True)
class HistoryLayout:
    """What of a history a model reads."""

    max_events: int  # newest ones, one by one
    contexts: bool = False  # values, scenes, devices, users' attributes and what is asked, where the data have them
    summaries: int = 0  # windows over the events before those
    max_history: int = 0  # events read in all, those of windows included

    def with_target(self) -> HistoryLayout:
        """The same with one event more, which is then asked for."""
        return replace(self, max_events=self.max_events + 1, max_history=self.max_history + 1)


@dataclass(frozen=True, slots=True)
class AskedBatch:
    """When and where each row's next item is asked for."""

    timestamps: Tensor  # (B,) long, Unix seconds
    scenes: Tensor | None = None  # (B,) long, 0 for none
    devices: Tensor | None = None

    @classmethod
    def of(cls, asked: Asked | None) -> AskedBatch | None:
        """What the sequences say, or None."""
        if asked is None:
            return None
        return cls(torch.from_numpy(asked.timestamps), _long(asked.scenes), _long(asked.devices))

    def to(self, device: torch.device | str) -> AskedBatch:
        """The same on a device."""
        return AskedBatch(self.timestamps.to(device), _moved(self.scenes, device), _moved(self.devices, device))


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """Histories as padded tensors, right-aligned so that column -1 is each user's newest event.

    A row without events is allowed: the policy answers with its prior. What the data or the layout
    leave out is None.
    """

    items: Tensor  # (B, T) long, dense item index, -1 where padded
    timestamps: Tensor  # (B, T) long, Unix seconds, 0 where padded
    actions: Tensor  # (B, T) long, codes of core.records.ACTIONS, 0 where padded
    values: Tensor | None = None  # (B, T) float, NaN for none
    scenes: Tensor | None = None  # (B, T) long codes of data.contexts, 0 for none
    devices: Tensor | None = None  # (B, T) likewise
    attributes: Tensor | None = None  # (B, A) long codes of data.attributes, 0 for none
    asked: AskedBatch | None = None
    older: OlderEvents | None = None

    @classmethod
    def from_sequences(cls, histories: Sequences, layout: HistoryLayout | int) -> HistoryBatch:
        """Keep what the layout says and pad on the left; T is at least 1. A number reads as many newest events."""
        layout = HistoryLayout(layout) if isinstance(layout, int) else layout
        lengths = histories.lengths
        recent = histories
        if not _is_short(histories, int(lengths.max(initial=0)), layout.max_events):
            recent = histories.last(layout.max_events)
            lengths = recent.lengths
        pad = _Padding(recent, lengths)
        batch = cls(
            items=pad.whole(recent.items, fill=-1),
            timestamps=pad.whole(recent.timestamps, fill=0),
            actions=pad.whole(recent.actions, fill=0),
        )
        if layout.summaries:
            older = OlderEvents.of(histories, layout.max_events, layout.max_history, layout.summaries)
            batch = replace(batch, older=older)
        if not layout.contexts:
            return batch
        return replace(
            batch,
            values=None if recent.values is None else pad.real(recent.values),
            scenes=None if recent.scenes is None else pad.whole(recent.scenes, fill=0),
            devices=None if recent.devices is None else pad.whole(recent.devices, fill=0),
            attributes=_long(recent.attributes),
            asked=AskedBatch.of(recent.asked),
        )

    def __len__(self) -> int:
        return self.items.shape[0]

    @property
    def mask(self) -> Tensor:
        """(B, T) True where there is an event."""
        return self.items >= 0

    def without_newest(self) -> HistoryBatch:
        """The columns before column -1, whose moment, scene and device become what is asked."""
        return HistoryBatch(
            items=self.items[:, :-1],
            timestamps=self.timestamps[:, :-1],
            actions=self.actions[:, :-1],
            values=_head(self.values),
            scenes=_head(self.scenes),
            devices=_head(self.devices),
            attributes=self.attributes,
            asked=AskedBatch(self.timestamps[:, -1], _tail(self.scenes), _tail(self.devices)),
            older=self.older,
        )

    def to(self, device: torch.device | str) -> HistoryBatch:
        """The same batch on a device."""
        return HistoryBatch(
            items=self.items.to(device),
            timestamps=self.timestamps.to(device),
            actions=self.actions.to(device),
            values=_moved(self.values, device),
            scenes=_moved(self.scenes, device),
            devices=_moved(self.devices, device),
            attributes=_moved(self.attributes, device),
            asked=None if self.asked is None else self.asked.to(device),
            older=None if self.older is None else self.older.to(device),
        )


def _is_short(rows: Sequences, longest: int, most: int) -> bool:
    """Whether all events are read, and there are no others."""
    starts, ends = rows.offsets[:1].tolist(), rows.offsets[-1:].tolist()
    return starts == [0] and ends == [rows.events] and longest <= most


class _Padding:
    """Where the events of rows come to stand."""

    def __init__(self, rows: Sequences, lengths: NDArray[np.int64]) -> None:
        width = max(1, int(lengths.max(initial=0)))
        self._shape = (len(rows), width)
        self._is_full = rows.events == len(rows) * width  # then there is nothing to pad
        if not self._is_full:
            self._rows = np.repeat(np.arange(len(rows)), lengths)
            self._columns = np.arange(rows.events) - np.repeat(rows.offsets[1:], lengths) + width

    def whole(self, values: NDArray[np.integer], fill: int) -> Tensor:
        return self._scattered(fill, values, np.int64)

    def real(self, values: NDArray[np.floating]) -> Tensor:
        return self._scattered(np.nan, values, np.float32)

    def _scattered(self, fill: float, values: NDArray[Any], kind: type[np.generic]) -> Tensor:
        if self._is_full:
            return torch.from_numpy(values.astype(kind).reshape(self._shape))
        out = np.full(self._shape, fill, dtype=kind)
        out[self._rows, self._columns] = values
        return torch.from_numpy(out)


def _long(column: NDArray[np.integer] | None) -> Tensor | None:
    return None if column is None else torch.from_numpy(column.astype(np.int64))


def _head(column: Tensor | None) -> Tensor | None:
    return None if column is None else column[:, :-1]


def _tail(column: Tensor | None) -> Tensor | None:
    return None if column is None else column[:, -1]


def _moved(column: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if column is None else column.to(device)
