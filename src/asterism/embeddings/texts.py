"""An item's fields as one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_FIELD_CHARACTERS = 600  # about 130 word pieces: more of a description says little and costs time


def item_texts(items: pa.Table, fields: Sequence[str]) -> list[str]:
    """One text an item, its fields in the given order; a field that the table lacks is left out.

    An item without any words gets an empty text.
    """
    columns = [items[field].to_pylist() for field in fields if field in items.column_names]
    if not columns:
        return [""] * items.num_rows
    return [". ".join(filter(None, map(field_text, row))) for row in zip(*columns, strict=True)]


def field_text(value: Any) -> str:
    """One field in one line, lists joined by commas, cut at a word's end where it is long."""
    if value is None:
        return ""
    words = ", ".join(str(one) for one in value if one is not None) if isinstance(value, list) else str(value)
    line = " ".join(words.split())
    if len(line) <= _FIELD_CHARACTERS:
        return line
    cut = line[:_FIELD_CHARACTERS]
    return cut.rpartition(" ")[0] or cut
