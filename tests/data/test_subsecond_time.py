"""Moments below a second: they order a user's events and tell them apart, and a saved data set keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asterism.core.errors import DataError
from asterism.data.fingerprinting import dataset_fingerprint
from asterism.data.importing import Imported
from asterism.data.locating import load_dataset
from asterism.data.splits import leave_one_out
from asterism.data.timestamps import TOO_LARGE, parse_nanoseconds, parse_timestamp

Write = Callable[[str, str], Path]
Importer = Callable[..., Imported]

#: Newest first, as many logs are written: C, B and A happen within one second.
MILLISECONDS = [1600000000900, 1600000000500, 1600000000100]
NANOSECONDS = [900_000_000, 500_000_000, 100_000_000]


def lines(times: list[object]) -> str:
    rows = zip("CBA", times, strict=True)
    return "user_id,item_id,timestamp\n" + "".join(f"u,{item},{time}\n" for item, time in rows)


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (MILLISECONDS, "ms"),
        (MILLISECONDS, "auto"),
        ([one / 1000 for one in MILLISECONDS], "s"),
        ([one + 0.5 for one in MILLISECONDS], "ms"),
        (["2020-09-13T12:26:40.9Z", "2020-09-13 14:26:40.500+02:00", "2020-09-13 12:26:40.1 UTC"], "s"),
    ],
)
def test_text_below_a_second_orders_events(write: Write, stop: Importer, times: list[object], unit: str) -> None:
    imported = stop(write("a.csv", lines(times)), unit=unit)
    assert imported.dataset.interactions["item_id"].to_pylist() == ["A", "B", "C"]
    assert imported.dataset.interactions["timestamp"].to_pylist() == [1600000000] * 3
    assert (imported.summary.sorted_by_time, imported.summary.events_out_of_order) == (True, 2)
    split = leave_one_out(imported.dataset)
    assert split.items.id_of(int(split.test.targets[0])) == "C"


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("ns")])
def test_arrow_timestamps_below_a_second_order_events(tmp_path: Path, stop: Importer, kind: pa.DataType) -> None:
    times = pa.array(MILLISECONDS, pa.timestamp("ms")).cast(pa.timestamp(kind.unit)).cast(kind)
    pq.write_table(
        pa.table({"user_id": ["u"] * 3, "item_id": ["C", "B", "A"], "timestamp": times}), tmp_path / "a.parquet"
    )
    table = stop(tmp_path / "a.parquet").dataset.interactions
    assert table["item_id"].to_pylist() == ["A", "B", "C"]
    assert table["nanoseconds_of_second"].to_pylist() == NANOSECONDS[::-1]


def test_two_clicks_of_one_second_are_two_events_also_once_they_were_saved(
    write: Write, stop: Importer, tmp_path: Path
) -> None:
    text = "user_id,item_id,timestamp\nu,A,1600000000100\nu,A,1600000000200\nu,A,1600000001000\n"
    imported = stop(write("a.csv", text), unit="ms")
    assert imported.dataset.interactions["nanoseconds_of_second"].to_pylist() == [100_000_000, 200_000_000, 0]
    imported.dataset.save(tmp_path / "saved")
    again = load_dataset(tmp_path / "saved")
    assert dataset_fingerprint(again) == dataset_fingerprint(imported.dataset)
    with pytest.raises(DataError, match="repeats an earlier one in every field that is kept"):
        stop(write("b.csv", text + "u,A,1600000000200\n"), unit="ms")


def test_whole_seconds_add_no_column(write: Write, stop: Importer) -> None:
    imported = stop(write("a.csv", lines([1600000002000, 1600000001000, 1600000000000])), unit="ms")
    assert imported.dataset.interactions.column_names == ["user_id", "item_id", "timestamp", "action", "value"]


def test_files_with_and_without_milliseconds_go_together(write: Write, load: Importer) -> None:
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    write("x.train.inter", head + "u\tA\t1600000000\nu\tB\t1600000001\n")
    write("x.valid.inter", head + "u\tC\t1600000001.25\n")
    write("x.test.inter", head + "u\tD\t1600000001.5\n")
    table = load().dataset.interactions
    assert table["nanoseconds_of_second"].to_pylist() == [0, 0, 250_000_000, 500_000_000]


def test_moments_before_1970_are_for_items_only() -> None:
    moments = pa.chunked_array([pa.array(["1942-11-26", "1969-12-31T23:59:59.25", None])])
    parsed = parse_timestamp(moments, of_event=False)
    assert parsed.values.to_pylist() == [-855187200, -1, None]
    assert parsed.nanoseconds is not None
    assert parsed.nanoseconds.to_pylist() == [0, 250_000_000, 0]
    assert not parsed.bad
    assert [rows.tolist() for rows in parse_timestamp(moments).bad.values()] == [[2], [0, 1]]
    whole = pa.chunked_array([pa.array([-855187200, 5])])
    assert not parse_timestamp(whole, of_event=False).bad
    old = pa.chunked_array([pa.array([-855187200500, 1600000000000])])
    assert parse_timestamp(old, "auto", of_event=False).values.to_pylist() == [-855187201, 1600000000]


def test_an_item_from_before_1970_is_kept(write: Write, stop: Importer) -> None:
    items = write("items.csv", "item_id,title,created_at\nA,Casablanca,1942-11-26\nB,Alien,1979-05-25\n")
    imported = stop(write("a.csv", "user_id,item_id,timestamp\nu,A,1\n"), items)
    assert imported.dataset.items["created_at"].to_pylist() == [-855187200, 296438400]


def test_nanoseconds_lie_within_a_second() -> None:
    cells = pa.chunked_array([pa.array(["0", "999999999", "1000000000", "-1", "x", None])])
    parsed = parse_nanoseconds(cells)
    assert parsed.values.to_pylist() == [0, 999_999_999, 0, 0, 0, 0]
    assert [rows.tolist() for rows in parsed.bad.values()] == [[2, 3, 4]]


@pytest.mark.parametrize("unit", ["s", "ms", "auto"])
def test_microseconds_are_not_advised_to_be_milliseconds(write: Write, stop: Importer, unit: str) -> None:
    file = write("a.csv", lines([1600000000000000, 1600000000000001, 1600000000000002]))
    with pytest.raises(DataError, match=r"in microseconds or finer \(1600000000000000\).*; divide") as caught:
        stop(file, unit=unit)
    assert "--timestamps-unit" not in caught.value.reason
    assert TOO_LARGE not in caught.value.reason
