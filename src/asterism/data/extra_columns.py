"""Columns of items and users that the contract does not know: what is kept of them, and in which form."""

from __future__ import annotations

import json

import pyarrow as pa

from asterism.core import records
from asterism.data.columns import Parsed, parse_embedding, parse_text


def parse_extra(column: pa.ChunkedArray, name: str) -> Parsed:
    """A vector where the name says so; else the column as it is, in the plain form of its type."""
    kind = column.type
    if name.startswith(records.EMBEDDING_PREFIX):
        return parse_embedding(column)
    if pa.types.is_large_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return parse_text(column)
    if pa.types.is_null(kind):
        return Parsed(column.cast(pa.string()), {})
    if _holds_plain_values(kind):
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        return Parsed(column.cast(pa.list_(kind.value_type)) if is_list else column, {})
    texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
    return Parsed(pa.chunked_array([pa.array(texts, pa.string())]), {})


def holds_bytes(column: pa.ChunkedArray) -> bool:
    """Whether a typed file's column holds bytes that are no text, such as pictures, or lists of bytes."""
    if pa.types.is_nested(column.type):
        return any(pa.types.is_large_binary(leaf) for leaf in _leaves(column.type))
    if not pa.types.is_large_binary(column.type):
        return False
    try:
        column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return True
    return False


def _leaves(kind: pa.DataType) -> list[pa.DataType]:
    if not pa.types.is_nested(kind):
        return [kind]
    return [leaf for place in range(kind.num_fields) for leaf in _leaves(kind.field(place).type)]


def _holds_plain_values(kind: pa.DataType) -> bool:
    """Whether a type is a scalar or a list of scalars; anything deeper is kept as JSON text."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return not pa.types.is_nested(inner) and not pa.types.is_decimal(inner)
