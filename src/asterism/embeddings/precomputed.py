"""Vectors that somebody else computed, in `embedding_<name>` columns of the items table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

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
    present = np.array([one is not None for one in lists], dtype=np.bool_)
    if not present.any():
        return absent_part(len(lists), 1)
    first = int(present.argmax())
    width = len(lists[first] or [])
    for row, one in enumerate(lists):
        if one is not None and (len(one) != width or width == 0):
            raise DataError(f"row {row} has {len(one)} numbers, row {first} has {width}", field=column)
    vectors = np.zeros((len(lists), width), dtype=np.float32)
    vectors[present] = np.array([one for one in lists if one is not None], dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise DataError(f"row {broken[0]} holds a null, NaN or infinity; give finite numbers or no list", field=column)
    return Part(vectors, present)


def _lists(items: pa.Table, column: str) -> list[list[float | None] | None]:
    if column not in items.column_names:
        others = [name for name in items.column_names if name.startswith(EMBEDDING_PREFIX)]
        raise DataError(f"there is no such column; the items have {', '.join(others) or 'none like it'}", field=column)
    kind = items.schema.field(column).type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DataError(f"a precomputed vector must be a list of numbers, but the type is {kind}", field=column)
    lists: list[list[float | None] | None] = items[column].to_pylist()
    return lists
