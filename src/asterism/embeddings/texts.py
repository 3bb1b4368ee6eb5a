"""An item's fields as one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asterism.core.records import KIND

_FIELD_CHARACTERS = 600  # about 130 word pieces: more of a description says little and costs time


def item_texts(
    items: pa.Table, fields: Sequence[str], fields_by_kind: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """One text an item: its kind's fields where the kind is known and has a list, else `fields`, in their order.

    A field that the table lacks is left out; an item without any words gets an empty text.
    """
    texts = _joined(items, fields)
    if not fields_by_kind or KIND not in items.column_names:
        return texts
    kinds = items[KIND].to_pylist()
    for kind, own in fields_by_kind.items():
        rows = [row for row, one in enumerate(kinds) if one == kind]
        for row, text in zip(rows, _joined(items.take(rows), own) if rows else [], strict=True):
            texts[row] = text
    return texts


def _joined(items: pa.Table, fields: Sequence[str]) -> list[str]:
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
