"""Vectors that somebody else computed, in `embedding_<name>` columns of the items table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.core.records import EMBEDDING_PREFIX
from asterism.embeddings.part import Part, absent_part


def column_name(name: str) -> str:
    """The column of a precomputed part; both `image` and `embedding_image` name `embedding_image`."""
    return name if name.startswith(EMBEDDING_PREFIX) else EMBEDDING_PREFIX + name


def precomputed_part(items: pa.Table, column: str) -> Part:
    """(N, d) vectors of a nullable list column; an item whose list is null is not present.

    Raises `DataError` on a missing column, lists of different lengths, and numbers that are not finite.
    """
    lists = _lists(items, column)
    present = lists.is_valid().to_numpy()
    if not present.any():
        return absent_part(len(lists), 1)
    widths = pc.list_value_length(lists).fill_null(0).to_numpy()
    first = int(present.argmax())
    width = int(widths[first])
    wrong = np.flatnonzero(present & ((widths != width) | (widths == 0)))
    if len(wrong):
        reason = f"row {wrong[0]} has {widths[wrong[0]]} numbers, row {first} has {width}"
        raise DataError(reason, field=column)
    vectors = np.zeros((len(lists), width), dtype=np.float32)
    vectors[present] = np.concatenate([_numbers(chunk, column) for chunk in lists.chunks]).reshape(-1, width)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise DataError(f"row {broken[0]} holds a null, NaN or infinity; give finite numbers or no list", field=column)
    return Part(vectors, present)


def _lists(items: pa.Table, column: str) -> pa.ChunkedArray:
    if column not in items.column_names:
        others = [name for name in items.column_names if name.startswith(EMBEDDING_PREFIX)]
        raise DataError(f"there is no such column; the items have {', '.join(others) or 'none like it'}", field=column)
    kind = items.schema.field(column).type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DataError(f"a precomputed vector must be a list of numbers, but the type is {kind}", field=column)
    return items[column]


def _numbers(lists: pa.Array, column: str) -> NDArray[np.float32]:
    """The numbers of all lists one after another, NaN for a null among them."""
    try:
        flat = pc.list_flatten(lists).cast(pa.float32(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"a precomputed vector must be a list of numbers ({error})", field=column) from error
    numbers: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False)
    return numbers
