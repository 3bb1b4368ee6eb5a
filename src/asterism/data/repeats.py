"""Rows that repeat an earlier one, and events that run backwards in time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.core import records
from asterism.data.columns import Rows

_PIECE_ROWS, _PIECE_BYTES = 1 << 20, (1 << 31) - 1

_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def codes_of(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Each value's position among the distinct values in first-seen order, and these values."""
    encoded = column.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return np.empty(0, dtype=np.int64), pa.array([], column.type)
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
    return codes.astype(np.int64), encoded.chunk(0).dictionary


def take_rows(table: pa.Table, rows: Rows) -> pa.Table:
    """A table's rows in another order, however much text they hold."""
    columns = [_take(table[name], rows) for name in table.column_names]
    return pa.table(columns, schema=table.schema)


def repeated_events(interactions: pa.Table) -> Rows:
    """Rows equal in every column to an earlier row, ascending."""
    users, _ = codes_of(interactions[records.USER_ID])
    items, _ = codes_of(interactions[records.ITEM_ID])
    times = interactions[records.TIMESTAMP].to_numpy()
    suspects = _sharing_a_key(users, items, times)
    if not len(suspects):
        return suspects
    mask = np.zeros(len(times), dtype=bool)
    mask[suspects] = True
    return suspects[_repeats(interactions.filter(pa.array(mask)))]


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
    seconds, nanoseconds = _times(interactions)
    steps = np.diff(seconds[order])
    backward = steps < 0
    if nanoseconds is not None:
        backward |= (steps == 0) & (np.diff(nanoseconds[order]) < 0)
    same_user = users[order][1:] == users[order][:-1]
    return int(np.count_nonzero(same_user & backward))


def sort_by_time(interactions: pa.Table) -> pa.Table:
    """The rows from oldest to newest; equal timestamps keep their order."""
    seconds, nanoseconds = _times(interactions)
    order = np.argsort(seconds, kind="stable") if nanoseconds is None else np.lexsort((nanoseconds, seconds))
    return take_rows(interactions, order)


def _times(interactions: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Seconds, and the nanoseconds of them where the log knows any."""
    seconds = interactions[records.TIMESTAMP].to_numpy()
    if records.NANOSECONDS not in interactions.column_names:
        return seconds, None
    return seconds, interactions[records.NANOSECONDS].to_numpy().astype(np.int64)


def _take(column: pa.ChunkedArray, rows: Rows) -> pa.ChunkedArray:
    """Arrow joins the chunks before it takes, and 32-bit offsets hold two gigabytes of text: so under 64-bit ones."""
    if not pa.types.is_string(column.type):
        return column.take(pa.array(rows))
    longest = pc.max(pc.binary_length(column)).as_py() or 1
    piece = max(1, min(_PIECE_ROWS, _PIECE_BYTES // longest))
    wide = column.cast(pa.large_string()).combine_chunks()
    pieces = (rows[start : start + piece] for start in range(0, len(rows), piece))
    return pa.chunked_array([wide.take(pa.array(one)).cast(pa.string()) for one in pieces], pa.string())


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
