"""Histories of a bundle's own users, to compare a graph with the model on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asterism.core import parts, records
from asterism.core.records import ACTION_CODES
from asterism.data.contexts import context_codes, event_values
from asterism.data.sequences import Asked, Sequences
from asterism.decoding.loading import TrainedRecommender

_ASKED_AFTER = 3600  # seconds after the newest event


def sample_histories(trained: TrainedRecommender, count: int) -> Sequences:
    """A row without events, and those of at most `count` - 1 users at equal distances in the bundle's list."""
    table = pq.read_table(trained.bundle.part(parts.HISTORIES))
    bounds = _bounds(table)
    users = np.unique(np.linspace(0, len(bounds) - 2, max(1, count - 1)).round().astype(np.int64))
    spans = [(int(bounds[user]), int(bounds[user + 1])) for user in users] if len(bounds) > 1 else []
    table = pa.concat_tables([table.slice(start, stop - start) for start, stop in spans] or [table])
    offsets = np.cumsum([0, 0, *(stop - start for start, stop in spans)]).astype(np.int64)
    histories = Sequences(
        offsets,
        trained.item_ids.encode(table[records.ITEM_ID].to_pylist()).astype(np.int32),
        table[records.TIMESTAMP].to_numpy().astype(np.int64),
        np.array([ACTION_CODES[action] for action in table[records.ACTION].to_pylist()], dtype=np.int8),
        event_values(table),
        context_codes(table, records.SCENE),
        context_codes(table, records.DEVICE),
        _attributes(trained, table, spans),
    )
    return _asked(histories)


def _bounds(table: pa.Table) -> NDArray[np.int64]:
    """(users + 1,) where each user's events begin."""
    codes = table[records.USER_ID].combine_chunks().dictionary_encode().indices.to_numpy()
    changes = np.flatnonzero(np.diff(codes)) + 1
    return np.concatenate([[0], changes, [len(codes)]] if len(codes) else [[0]]).astype(np.int64)


def _attributes(trained: TrainedRecommender, table: pa.Table, spans: list[tuple[int, int]]) -> NDArray[np.int32] | None:
    if trained.attributes is None:
        return None
    firsts = np.cumsum([0, *(stop - start for start, stop in spans)])[:-1]
    users = table[records.USER_ID].take(pa.array(firsts)).to_pylist()
    return trained.attributes.rows(["", *users])


def _asked(histories: Sequences) -> Sequences:
    """Each row asked an hour after its newest event, in that event's scene and on its device."""
    newest = [stop - 1 if stop > start else -1 for start, stop in pairwise(histories.offsets.tolist())]
    known = np.array(newest) >= 0
    places = np.maximum(newest, 0)
    if not known.any():
        return histories
    asked = Asked(
        np.where(known, histories.timestamps[places] + _ASKED_AFTER, -1),
        None if histories.scenes is None else np.where(known, histories.scenes[places], 0).astype(np.uint16),
        None if histories.devices is None else np.where(known, histories.devices[places], 0).astype(np.uint16),
    )
    return replace(histories, asked=asked)
