"""A hash of what a data set says, whatever files it came from."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asterism.data.dataset import Dataset


def dataset_fingerprint(dataset: Dataset) -> str:
    """SHA-256, in hex, over names, types and values of all columns of all tables, in the order of their rows.

    The order of columns and the chunks of a table do not count.
    """
    digest = hashlib.sha256()
    for name, table in (("interactions", dataset.interactions), ("items", dataset.items), ("users", dataset.users)):
        if table is not None:
            digest.update(f"{name}\0{table.num_rows}\0".encode())
            for column in sorted(table.column_names):
                digest.update(f"{column}\0{_type_name(table[column].type)}\0".encode())
                _update(digest, _wide(table[column]).combine_chunks())
    return digest.hexdigest()


def _update(digest: hashlib._Hash, array: pa.Array) -> None:
    digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
    values = array.drop_null()
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        digest.update(pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        _update(digest, values.flatten())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    elif len(values):
        _update_bytes(digest, _wide_cells(values))


def _update_bytes(digest: hashlib._Hash, cells: pa.Array) -> None:
    _, offsets_buffer, data = cells.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[cells.offset : cells.offset + len(cells) + 1]
    digest.update(np.diff(offsets).tobytes())
    if data is not None:
        digest.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])


def _wide_cells(values: pa.Array) -> pa.Array:
    kind = values.type
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return values.cast(pa.large_binary() if is_bytes else pa.large_string())


def _type_name(kind: pa.DataType) -> str:
    """A type's name; what a list calls its values (`item`, `element`) depends on the file, so it does not count."""
    return f"list<{_type_name(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def _wide(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text under 64-bit offsets, so that any amount fits one array."""
    return column.cast(pa.large_string()) if pa.types.is_string(column.type) else column
