"""Histories as the inputs of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import ModelConfig
from asterism.data.sequences import Sequences
from asterism.decoding.graph.ports import history_ports
from asterism.models.histories import HistoryBatch, HistoryLayout

Feeds = dict[str, NDArray[Any]]


def columns_of(histories: Sequences, config: ModelConfig) -> Feeds:
    """The arrays of `history_ports`, by name; what the histories do not tell is filled in as missing."""
    batch = HistoryBatch.from_sequences(histories, HistoryLayout(config.max_events, contexts=True))
    rows = len(histories)
    asked = batch.asked
    known = {
        "items": batch.items,
        "timestamps": batch.timestamps,
        "actions": batch.actions,
        "values": _or(batch.values, batch.items.shape, np.nan),
        "scenes": _or(batch.scenes, batch.items.shape, 0),
        "devices": _or(batch.devices, batch.items.shape, 0),
        "attributes": _or(batch.attributes, (rows, 1), 0),
        "asked_timestamps": _or(None if asked is None else asked.timestamps, (rows,), -1),
        "asked_scenes": _or(None if asked is None else asked.scenes, (rows,), 0),
        "asked_devices": _or(None if asked is None else asked.devices, (rows,), 0),
    }
    if config.summaries:
        starts = np.maximum(histories.offsets[:-1], histories.offsets[1:] - config.max_history)
        stops = np.maximum(starts, histories.offsets[1:] - config.max_events)
        older = HistoryBatch.from_sequences(histories.slices(starts, stops), config.max_history)
        known |= {"older_items": older.items, "older_timestamps": older.timestamps}
    return {port.name: np.asarray(known[port.name], dtype=port.dtype) for port in history_ports(config)}


def seen_items(histories: Sequences) -> NDArray[np.int64]:
    """(B, X) the items of whole histories, also of events that the model does not read; -1 where padded."""
    longest = max(1, int(histories.lengths.max(initial=0)))
    items: NDArray[np.int64] = HistoryBatch.from_sequences(histories, longest).items.numpy()
    return items


def _or(column: Tensor | None, shape: tuple[int, ...], missing: float) -> Tensor | NDArray[Any]:
    return np.full(shape, missing) if column is None else column
