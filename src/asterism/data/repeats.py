"""Rows that repeat an earlier one, and events that run backwards in time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.core import records
from asterism.data.columns import Rows

_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def codes_of(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Each value's position among the distinct values in first-seen order, and these values."""
    encoded = column.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return np.empty(0, dtype=np.int64), pa.array([], column.type)
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
    return codes.astype(np.int64), encoded.chunk(0).dictionary


def repeated_events(interactions: pa.Table) -> Rows:
    """Rows equal in every column to an earlier row, ascending."""
    users, _ = codes_of(interactions[records.USER_ID])
    items, _ = codes_of(interactions[records.ITEM_ID])
    times = interactions[records.TIMESTAMP].to_numpy()
    suspects = _sharing_a_key(users, items, times)
    return suspects[_repeats(interactions.take(pa.array(suspects)))] if len(suspects) else suspects


def repeated_values(column: pa.ChunkedArray) -> Rows:
    """Rows whose value stood in an earlier row, ascending."""
    codes, values = codes_of(column)
    first = np.full(len(values), len(codes), dtype=np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    return np.flatnonzero(first[codes] != np.arange(len(codes))).astype(np.int64)


def backward_steps(interactions: pa.Table) -> int:
    """How many events are older than the same user's event before them in the file."""
    users, _ = codes_of(interactions[records.USER_ID])
    order = np.argsort(users, kind="stable")
    times: NDArray[np.int64] = interactions[records.TIMESTAMP].to_numpy()[order]
    same_user = users[order][1:] == users[order][:-1]
    return int(np.count_nonzero(same_user & (np.diff(times) < 0)))


def sort_by_time(interactions: pa.Table) -> pa.Table:
    """The rows from oldest to newest; equal timestamps keep their order."""
    order = np.argsort(interactions[records.TIMESTAMP].to_numpy(), kind="stable")
    return interactions.take(pa.array(order))


def _sharing_a_key(*keys: NDArray[np.int64]) -> Rows:
    """Rows whose keys may equal those of another row: equal keys have equal hashes, so none is missed."""
    hashes = np.zeros(len(keys[0]), dtype=np.uint64)
    for key, factor in zip(keys, _MIX, strict=True):
        hashes = (hashes ^ key.astype(np.uint64)) * factor
        hashes ^= hashes >> np.uint64(29)
    ordered = np.sort(hashes)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return np.flatnonzero(np.isin(hashes, shared)).astype(np.int64) if len(shared) else np.empty(0, dtype=np.int64)


def _repeats(table: pa.Table) -> Rows:
    numbered = table.append_column("__row", pa.array(np.arange(table.num_rows)))
    firsts = numbered.group_by(table.column_names).aggregate([("__row", "min")])["__row_min"]
    is_first = np.zeros(table.num_rows, dtype=bool)
    is_first[firsts.to_numpy()] = True
    return np.flatnonzero(~is_first).astype(np.int64)


def unknown_values(values: pa.Array, known: pa.ChunkedArray) -> pa.Array:
    """The values that `known` does not hold, in their order."""
    return values.filter(pc.invert(pc.is_in(values, known.combine_chunks())))
