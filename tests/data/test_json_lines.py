"""JSON lines whose fields change their type, within a batch and between batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asterism.data.importing import Imported
from asterism.data.readers import json_lines
from asterism.data.readers.json_lines import read_json_lines

Write = Callable[[str, str], Path]


def read(write: Write, values: list[object]) -> list[object]:
    file = write("a.jsonl", "".join(json.dumps({"field": value}) + "\n" for value in values))
    found: list[object] = read_json_lines(file).table["field"].to_pylist()
    return found


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["All", "Hair, Oils"], ["Skin"], []], [["All", "Hair, Oils"], ["Skin"], []]),
        ([["All"], None, [], []], [["All"], None, [], []]),
        ([[], "One", None, ["Two", "Three"]], [[], ["One"], None, ["Two", "Three"]]),
        ([["a"], [1, 2.0]], [["a"], ["1", "2"]]),
        ([[1, 2], [0.5, 1.5]], [[1.0, 2.0], [0.5, 1.5]]),
        ([[2**53 + 1], [0.5]], [["9007199254740993"], ["0.5"]]),
        ([1.0, 2, "a", None], ["1", "2", "a", None]),
        ([1.5, "a", math.nan, "b"], ["1.5", "a", None, "b"]),
        ([2**53 + 1, "a"], ["9007199254740993", "a"]),
    ],
)
def test_a_field_of_several_types(
    write: Write, monkeypatch: pytest.MonkeyPatch, values: list[object], expected: list[object], batch: int
) -> None:
    monkeypatch.setattr(json_lines, "_BATCH_LINES", batch)
    assert read(write, values) == expected


def test_one_empty_list_leaves_a_catalogues_categories_alone(
    write: Write, stop: Callable[..., Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "_BATCH_LINES", 2)
    lines = [{"item_id": str(row), "title": "t", "categories": ["All Beauty", "Hair, Oils"]} for row in range(2)]
    lines.append({"item_id": "2", "title": "t", "categories": []})
    items = write("items.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    imported = stop(write("a.csv", "user_id,item_id,timestamp\nu,1,1\n"), items)
    assert imported.dataset.items["categories"].to_pylist() == [["All Beauty", "Hair, Oils"]] * 2 + [[]]


def test_nan_is_no_id_and_no_text(write: Write, reject: Callable[..., object], tmp_path: Path) -> None:
    events = '{"user_id":NaN,"item_id":"a","timestamp":1}\n{"user_id":1,"item_id":"a","timestamp":2}\n'
    items = '{"item_id":"a","title":NaN,"brand":"x"}\n{"item_id":"b","title":NaN,"brand":NaN}\n'
    imported, rejected = reject(write("e.jsonl", events), write("i.jsonl", items))  # type: ignore[misc]
    assert [one["reason"] for one in rejected] == ["the id is empty; it is 'nan'"]
    assert imported.dataset.interactions["user_id"].to_pylist() == ["1"]
    assert imported.dataset.items["title"].to_pylist() == [None, None]
    assert imported.dataset.items["brand"].to_pylist() == ["x", None]
    ids = pa.array([1.0, math.nan])
    pq.write_table(pa.table({"user_id": ids, "item_id": ids, "timestamp": [1, 2]}), tmp_path / "e.parquet")
    imported, rejected = reject(tmp_path / "e.parquet")  # type: ignore[misc]
    assert imported.dataset.interactions["item_id"].to_pylist() == ["1"]
    assert len(rejected) == 1
