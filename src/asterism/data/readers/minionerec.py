"""MiniOneRec: one CSV of samples (history → next item) a part, and the items as one JSON object."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from asterism.core import records
from asterism.core.errors import DataError
from asterism.data.columns import Rows
from asterism.data.raw import RawDataset, RawTable, UnreadableLine, rows_as_lines
from asterism.data.readers.delimited import Layout, read_delimited
from asterism.data.readers.json_lines import is_encodable

_PARTS = {"train": "train", "valid": "validation", "test": "test"}
_PART_OF_WORD = {"training": "train", "validation": "valid", "val": "valid", "testing": "test"}
_HISTORY = "history_item_id"


def is_minionerec(folder: Path) -> bool:
    """Whether a folder holds MiniOneRec's items and its training samples."""
    return bool(_items(folder)) and bool(_samples(folder, "train"))


def read_minionerec(folder: Path) -> RawDataset:
    """Rebuild users' events from samples: what the first history shows, then every target in order.

    The samples have no time, so an event's timestamp is its position in its user's sequence. Raises
    `DataError` where a part is missing, or where the folder holds more than one data set.
    """
    catalogues = _items(folder)
    if len(catalogues) > 1:
        held = ", ".join(file.relative_to(folder).as_posix() for file in catalogues)
        reason = f"the folder holds several data sets ({held}), whose ids would mix; give each a folder of its own"
        raise DataError(reason, file=str(folder))
    seen: Counter[str] = Counter()
    tables = []
    for part, split in _PARTS.items():
        files = _samples(folder, part)
        if not files:
            raise DataError(f"the folder holds no samples of the part `{part}`", file=str(folder))
        tables += [_read_samples(file, split, seen) for file in files]
    return RawDataset("minionerec", tuple(tables), tuple(_read_items(file) for file in catalogues))


def _samples(folder: Path, part: str) -> list[Path]:
    inside = folder / part
    if inside.is_dir():
        return sorted(inside.glob("*.csv"))
    return sorted(file for file in folder.glob("*.csv") if _part_of(file) == part)


def _part_of(file: Path) -> str | None:
    """The part that a file's name says with its last word about parts: `ml-test_train.csv` is training samples."""
    words = [_PART_OF_WORD.get(word, word) for word in re.split(r"[._-]", file.stem.lower())]
    return next((word for word in reversed(words) if word in _PARTS), None)


def _items(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.item.json"), *folder.glob("index/*.item.json")])


def _read_samples(file: Path, split: str, seen: Counter[str]) -> RawTable:
    raw = read_delimited(file, Layout())
    for name in (records.USER_ID, _HISTORY, records.ITEM_ID):
        if name not in raw.table.column_names:
            raise DataError("the column is missing", file=str(file), field=name)
    samples = raw.table.select([records.USER_ID, _HISTORY, records.ITEM_ID]).to_pydict()
    events: list[tuple[str, str, int, str]] = []
    rows: list[int] = []
    broken: list[tuple[int, str]] = []
    cells = zip(samples[records.USER_ID], samples[_HISTORY], samples[records.ITEM_ID], strict=True)
    for row, (user_cell, history_cell, target_cell) in enumerate(cells):
        user, target = _text(user_cell), _text(target_cell)
        history = _history(_text(history_cell))
        if history is None:
            broken.append((row, _text(history_cell)))
            continue
        known = [] if seen[user] else [(item, "train") for item in history]
        for item, part in [*known, (target, split)]:
            events.append((user, item, seen[user], part))
            rows.append(row)
            seen[user] += 1
    names = (records.USER_ID, records.ITEM_ID, records.TIMESTAMP, records.SPLIT)
    columns = zip(*events, strict=True) if events else ((), (), (), ())
    table = pa.table({name: list(column) for name, column in zip(names, columns, strict=True)})
    row_of_event = np.array(rows, dtype=np.int64)

    def lines_of(events_wanted: Rows) -> Rows:
        return raw.lines_of(np.arange(raw.table.num_rows))[row_of_event[events_wanted]]

    return RawTable(str(file), table, lines_of, (*raw.unreadable, *_as_unreadable(raw, broken)))


def _as_unreadable(raw: RawTable, broken: list[tuple[int, str]]) -> list[UnreadableLine]:
    if not broken:
        return []
    lines = raw.lines_of(np.array([row for row, _ in broken], dtype=np.int64))
    reason = f"`{_HISTORY}` is not a list"
    return [UnreadableLine(int(line), reason, text) for line, (_, text) in zip(lines, broken, strict=True)]


def _text(cell: bytes | None) -> str:
    return "" if cell is None else cell.decode("utf-8", "replace")


def _history(text: str) -> list[str] | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    items = [str(one) for one in value] if isinstance(value, list) else None
    return items if is_encodable(items) else None


def _read_items(file: Path) -> RawTable:
    try:
        items = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"the file is not JSON ({error})", file=str(file)) from error
    if not isinstance(items, dict) or not all(isinstance(one, dict) for one in items.values()):
        raise DataError("the file is not one object of items by id", file=str(file))
    broken = next((item for item, fields in items.items() if not is_encodable([item, fields])), None)
    if broken is not None:
        raise DataError(f"item {broken!r} holds half of a surrogate pair; mend its text", file=str(file))
    fields = (records.TITLE, records.DESCRIPTION, records.BRAND, records.CATEGORIES)
    columns = {name: [_plain(one.get(name)) for one in items.values()] for name in fields}
    return RawTable(str(file), pa.table({records.ITEM_ID: list(items), **columns}), rows_as_lines)


def _plain(value: object) -> str | None:
    if isinstance(value, list):
        return " | ".join(str(one) for one in value)
    return None if value is None else str(value)
