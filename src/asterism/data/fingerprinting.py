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
                digest.update(f"{column}\0{table[column].type}\0".encode())
                _update(digest, table[column].combine_chunks())
    return digest.hexdigest()


def _update(digest: hashlib._Hash, array: pa.Array) -> None:
    if isinstance(array, pa.ChunkedArray):  # more text than one array can hold
        for chunk in array.chunks:
            _update(digest, chunk)
        return
    digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
    values = array.drop_null()
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        digest.update(pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        _update(digest, values.flatten())
    elif pa.types.is_primitive(kind):
        digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    else:
        _update_text(digest, values.cast(pa.large_string()))


def _update_text(digest: hashlib._Hash, texts: pa.LargeStringArray) -> None:
    _, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    digest.update(np.diff(offsets).tobytes())
    if data is not None:
        digest.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
