"""Each way in which a row or a file can be bad: named when the import stops, set aside when it goes on."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asterism.core.errors import DataError

Write = Callable[[str, str | bytes], Path]

HEADER = "user_id,item_id,timestamp,action,value\n"
GOOD = "u1,i1,100,click,1\n"

BAD_ROWS = [
    (",i1,5,click,1\n", "user_id", "the id is empty; it is empty"),
    ("u1, ,5,click,1\n", "item_id", "the id is empty; it is ' '"),
    ("u1,i1,2.5,click,1\n", "timestamp", "the timestamp is not a whole number of Unix seconds; it is '2.5'"),
    ("u1,i1,2020-01-01,click,1\n", "timestamp", "not a whole number of Unix seconds; it is '2020-01-01'"),
    ("u1,i1,,click,1\n", "timestamp", "the timestamp is missing"),
    ("u1,i1,-1,click,1\n", "timestamp", "the timestamp is negative; it is '-1'"),
    ("u1,i1,5,teleport,1\n", "action", "the value is none of impression, click, view"),
    ("u1,i1,5,click,lots\n", "value", "the value is not a number; it is 'lots'"),
    ("u1,i1,5,click,nan\n", "value", "the number is not finite; it is 'nan'"),
    ("u1,i1,5\n", None, "the line has 3 cells, the header has 5"),
    ("u1,i1,5,click,1,2\n", None, "the line has 6 cells, the header has 5"),
    (b"u\xff,i1,5,click,1\n", "user_id", r"the value is not UTF-8; it is 'u\\xff'"),
]


@pytest.mark.parametrize(("row", "field", "reason"), BAD_ROWS)
def test_a_bad_row_stops_the_import(
    write: Write, stop: Callable[..., object], row: str | bytes, field: str | None, reason: str
) -> None:
    raw = row if isinstance(row, bytes) else row.encode()
    file = write("a.csv", (HEADER + GOOD).encode() + b"\n" + raw + b"u2,i2,101,click,\n")
    with pytest.raises(DataError) as caught:
        stop(file)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(file), 4, field)
    assert reason in caught.value.reason
    assert "--on-error reject" in caught.value.reason


@pytest.mark.parametrize(("row", "field", "reason"), BAD_ROWS)
def test_a_bad_row_is_set_aside(
    write: Write, reject: Callable[..., object], row: str | bytes, field: str | None, reason: str
) -> None:
    raw = row if isinstance(row, bytes) else row.encode()
    file = write("a.csv", (HEADER + GOOD).encode() + raw + b"u2,i2,101,click,\n")
    imported, rejected = reject(file)  # type: ignore[misc]
    assert imported.dataset.interactions["user_id"].to_pylist() == ["u1", "u2"]
    assert [(one["file"], one["line"], one["field"]) for one in rejected] == [(str(file), 3, field)]
    assert reason in rejected[0]["reason"]
    assert imported.summary.rows_rejected == 1
    assert imported.summary.tables["interactions"].rows_read == 3
    assert imported.summary.tables["interactions"].rows_kept == 2


def test_several_bad_rows_are_named_together(write: Write, stop: Callable[..., object]) -> None:
    file = write("a.csv", HEADER + "u1,i1,x,click,1\n" + GOOD + "u1,,5,click,1\n" + "u1,i1\n")
    with pytest.raises(DataError, match=re.escape(f"{file}:2, field `timestamp`")) as caught:
        stop(file)
    assert "2 more bad rows, such as line 4 (the id is empty), line 5" in caught.value.reason


def test_a_row_is_rejected_once_for_its_first_reason(write: Write, reject: Callable[..., object]) -> None:
    file = write("a.csv", HEADER + GOOD + ",,x,teleport,y\n")
    _, rejected = reject(file)  # type: ignore[misc]
    assert [one["field"] for one in rejected] == ["user_id"]
    assert rejected[0]["row"] == {
        "user_id": None,
        "item_id": None,
        "timestamp": "x",
        "action": "teleport",
        "value": "y",
    }


def test_lines_are_right_after_cells_that_span_lines(write: Write, stop: Callable[..., object]) -> None:
    items = write("items.csv", 'item_id,title,price\ni1,"two\nlines, quoted",1\n\ni2,"say ""hi""",-2\n')
    with pytest.raises(DataError) as caught:
        stop(write("a.csv", HEADER + GOOD), items)
    assert (caught.value.line, caught.value.field) == (5, "price")
    assert "the number is below 0; it is '-2'" in caught.value.reason


@pytest.mark.parametrize("dropped", ["user_id", "item_id", "timestamp"])
def test_a_missing_column(write: Write, stop: Callable[..., object], dropped: str) -> None:
    names = [name for name in ("user_id", "item_id", "timestamp") if name != dropped]
    file = write("a.csv", ",".join(names) + "\n1,2\n")
    with pytest.raises(DataError, match="the column is missing") as caught:
        stop(file)
    assert caught.value.field == dropped
    assert ", ".join(names) in caught.value.reason


@pytest.mark.parametrize(("name", "content"), [("a.csv", ""), ("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.parquet", "")])
def test_an_empty_file(write: Write, stop: Callable[..., object], name: str, content: str) -> None:
    with pytest.raises(DataError, match=r"the file is empty"):
        stop(write(name, content))


@pytest.mark.parametrize("content", [HEADER, HEADER.strip(), HEADER + "\n\n"])
def test_a_header_alone(write: Write, stop: Callable[..., object], content: str) -> None:
    with pytest.raises(DataError, match="the file holds no rows"):
        stop(write("a.csv", content))


def test_milliseconds_are_a_fault_of_the_file(write: Write, stop: Callable[..., object], reject: object) -> None:
    file = write("a.csv", "user_id,item_id,timestamp\nu1,i1,1700000000123\nu1,i2,1700000001123\n")
    for run in (stop, reject):
        with pytest.raises(DataError, match=r"milliseconds \(1700000000123\).*--timestamps-unit ms") as caught:
            run(file)  # type: ignore[operator]
        assert (caught.value.line, caught.value.field) == (2, "timestamp")
    for unit in ("ms", "auto"):
        imported = stop(file, unit=unit)
        assert imported.dataset.interactions["timestamp"].to_pylist() == [1700000000, 1700000001]  # type: ignore[attr-defined]


def test_one_timestamp_in_milliseconds_is_a_fault_of_its_row(write: Write, reject: Callable[..., object]) -> None:
    file = write("a.csv", "user_id,item_id,timestamp\nu1,i1,1\nu1,i2,1700000001123\nu1,i3,2\n")
    imported, rejected = reject(file)  # type: ignore[misc]
    assert imported.dataset.interactions["item_id"].to_pylist() == ["i1", "i3"]
    assert rejected[0]["line"] == 3


def test_asking_for_milliseconds_where_there_are_seconds(write: Write, stop: Callable[..., object]) -> None:
    file = write("a.csv", "user_id,item_id,timestamp\nu1,i1,1700000000\n")
    with pytest.raises(DataError, match="too small to be milliseconds"):
        stop(file, unit="ms")


def test_repeated_events(write: Write, stop: Callable[..., object], reject: Callable[..., object]) -> None:
    file = write("a.csv", HEADER + GOOD + "u1,i1,100,view,1\n" + GOOD + "u1,i1,100,click,2\n" + GOOD)
    with pytest.raises(DataError, match="the event repeats an earlier one in every field that is kept") as caught:
        stop(file)
    assert caught.value.line == 4
    imported, rejected = reject(file)  # type: ignore[misc]
    assert [one["line"] for one in rejected] == [4, 6]
    assert imported.summary.duplicate_events == 2
    assert imported.dataset.interactions.num_rows == 3


def test_repeated_item_ids(write: Write, stop: Callable[..., object], reject: Callable[..., object]) -> None:
    interactions = write("a.csv", HEADER + GOOD)
    items = write("items.csv", "item_id,title\ni1,One\ni2,Two\ni1,Uno\n")
    with pytest.raises(DataError, match="the item_id stood in an earlier row") as caught:
        stop(interactions, items)
    assert (caught.value.line, caught.value.field) == (4, "item_id")
    imported, rejected = reject(interactions, items)  # type: ignore[misc]
    assert imported.dataset.items["title"].to_pylist() == ["One", "Two"]
    assert len(rejected) == 1


def test_bad_json_lines(write: Write, reject: Callable[..., object]) -> None:
    good = b'{"user_id": 1, "item_id": "i1", "timestamp": 5}\n'
    file = write(
        "a.jsonl", good + b"{oops\n\n[1]\n" + b'{"user_id": "\xff"}\n' + b'{"user_id": "\\ud800"}\n' + good[:-1]
    )
    imported, rejected = reject(file)  # type: ignore[misc]
    assert [one["line"] for one in rejected] == [2, 4, 5, 6, 7]
    assert [one["reason"] for one in rejected[:4]] != [one["reason"] for one in rejected[1:5]]
    assert imported.dataset.interactions["user_id"].to_pylist() == ["1"]


def test_parquet_rows_count_from_one(tmp_path: Path, stop: Callable[..., object]) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user_id": ["a", None], "item_id": [1, 2], "timestamp": [1, 2]}), file)
    with pytest.raises(DataError, match="the id is empty") as caught:
        stop(file)
    assert caught.value.line == 2


def test_a_rejected_row_is_strict_json(tmp_path: Path, reject: Callable[..., object]) -> None:
    file = tmp_path / "a.parquet"
    values = {"user_id": ["a", "b"], "item_id": ["x", "x"], "timestamp": [1, 2], "value": [math.nan, 1.0]}
    pq.write_table(pa.table(values), file)
    imported, rejected = reject(file)  # type: ignore[misc]
    assert rejected[0]["row"] == {"user_id": "a", "item_id": "x", "timestamp": 1, "value": "nan"}
    assert imported.dataset.interactions["user_id"].to_pylist() == ["b"]


def test_files_that_are_not_what_they_claim(write: Write, stop: Callable[..., object]) -> None:
    with pytest.raises(DataError, match="not a Parquet file"):
        stop(write("a.parquet", "user_id"))
    with pytest.raises(DataError, match="cannot be read as delimited text"):
        stop(write("a.csv.gz", "user_id"))
    with pytest.raises(DataError, match="not read by itself"):
        stop(write("a.xlsx", "user_id"))
    with pytest.raises(DataError, match="no such file"):
        stop(Path("nowhere.csv"))
    with pytest.raises(DataError, match="this is a folder"):
        stop(Path())


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        (b"user_id,user_id\n1,2\n", "names user_id twice", 1),
        (b"user_id,,x\n1,2,3\n", "a column without a name", 1),
        (b"user_id,\xff\n1,2\n", "the header is not UTF-8", 1),
        (b'user_id,item_id,timestamp\na,b,1\na,"b,2\nc,d,3\n', "a double quote is never closed", 3),
    ],
)
def test_broken_text_files(write: Write, stop: Callable[..., object], content: bytes, reason: str, line: int) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        stop(write("a.csv", content))
    assert caught.value.line == line


WHOLE = gzip.compress(b'{"user_id": 1, "item_id": 2, "timestamp": 3}\n' * 50, mtime=0)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
@pytest.mark.parametrize("content", [WHOLE[:-12], WHOLE[:15] + b"\xff\xff\xff" + WHOLE[18:], b"\x1f\x8bxx", b"plain"])
def test_broken_compressed_files(write: Write, stop: Callable[..., object], name: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot be read.*; fetch or write it again") as caught:
        stop(write(name, content))
    assert caught.value.file is not None
    assert caught.value.file.endswith(name)


@pytest.mark.parametrize("content", ['[{"user_id": 1}]', '[\n  {\n    "user_id": 1\n  }\n]'])
def test_a_json_array_is_no_json_lines(
    write: Write, stop: Callable[..., object], reject: Callable[..., object], content: str
) -> None:
    for read in (stop, reject):
        with pytest.raises(DataError, match="write one JSON object a line") as caught:
            read(write("a.json", content))
        assert caught.value.line == 1


def test_rows_that_are_bad_alike_say_why_once(write: Write, stop: Callable[..., object]) -> None:
    with pytest.raises(DataError, match="2 more bad rows, such as line 3, line 4; mend the file") as caught:
        stop(write("a.csv", HEADER + "u1,,5,click,1\n" * 3))
    assert caught.value.reason.count("the id is empty") == 1


def test_a_file_of_bad_rows_only(write: Write, reject: Callable[..., object]) -> None:
    with pytest.raises(DataError, match="no interaction is left"):
        reject(write("a.csv", HEADER + "u1,i1,x,click,1\n"))


def test_a_catalogue_of_bad_rows_only(write: Write, reject: Callable[..., object]) -> None:
    items = write("items.csv", "item_id,title,price\ni1,One,-3\ni2,Two,-4\n")
    imported, rejected = reject(write("a.csv", HEADER + GOOD), items)  # type: ignore[misc]
    assert len(rejected) == 2
    assert imported.dataset.items.to_pylist() == [{"item_id": "i1", "title": None, "price": None}]
