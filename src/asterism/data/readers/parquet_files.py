"""Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asterism.core.errors import DataError
from asterism.data.raw import RawTable, rows_as_lines

_HEX = np.array([list(f"{byte:02x}".encode()) for byte in range(256)], dtype=np.uint8)
_HEX_PLACES = np.array([place for place in range(36) if place not in (8, 13, 18, 23)])


def read_parquet(file: Path) -> RawTable:
    """Read a Parquet file; its lines are its rows, counted from one; raises `DataError` where it is none.

    Views and extensions come as the plain types that hold the same values, UUIDs as text, all bytes as `large_binary`.
    """
    if not file.stat().st_size:
        raise DataError("the file is empty", file=str(file))
    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"this is not a Parquet file that can be read ({error}); write it again", file=str(file)) from (
            error
        )
    plain = pa.table([_plain(column) for column in table.columns], names=table.column_names)
    return RawTable(str(file), plain, rows_as_lines)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.UuidType):
        return pa.chunked_array([_uuid_text(chunk) for chunk in column.chunks], pa.string())
    kind = _plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that holds the same values and that every Arrow kernel knows."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _plain_type(kind.value_type)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind


def _uuid_text(array: pa.ExtensionArray) -> pa.StringArray:
    storage = array.storage
    octets = np.frombuffer(storage.buffers()[1] or b"", dtype=np.uint8)
    octets = octets[16 * storage.offset : 16 * (storage.offset + len(storage))].reshape(-1, 16)
    letters = np.full((len(octets), 36), ord("-"), dtype=np.uint8)
    letters[:, _HEX_PLACES] = _HEX[octets].reshape(-1, 32)
    texts = pa.FixedSizeBinaryArray.from_buffers(pa.binary(36), len(octets), [None, pa.py_buffer(letters)])
    return pc.if_else(storage.is_valid(), texts.cast(pa.binary()).cast(pa.string()), None)
