"""What an import keeps, moves, notices and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.data.importing import Imported, import_dataset
from asterism.data.locating import load_dataset
from asterism.data.raw import RawDataset, RawTable, rows_as_lines
from asterism.data.rejects import Rejects
from asterism.data.repeats import backward_steps, repeated_events, repeated_values, sort_by_time

Write = Callable[[str, str | bytes], Path]


def test_rows_out_of_order_are_sorted_stably_and_said(write: Write, stop: Callable[..., Imported]) -> None:
    file = write("a.csv", "user_id,item_id,timestamp\nu,a,3\nu,b,1\nv,c,2\nu,d,1\n")
    imported = stop(file)
    assert imported.dataset.interactions["item_id"].to_pylist() == ["b", "d", "c", "a"]
    assert imported.summary.sorted_by_time
    assert imported.summary.events_out_of_order == 1


def test_rows_in_order_for_each_user_keep_their_places(write: Write, stop: Callable[..., Imported]) -> None:
    file = write("a.csv", "user_id,item_id,timestamp\nu,a,3\nu,b,4\nv,c,1\n")
    imported = stop(file)
    assert imported.dataset.interactions["item_id"].to_pylist() == ["a", "b", "c"]
    assert not imported.summary.sorted_by_time


def test_a_catalogue_of_other_ids_is_noticed(write: Write, stop: Callable[..., Imported]) -> None:
    interactions = write("a.csv", "user_id,item_id,timestamp\nu,1.0,1\n")
    imported = stop(interactions, write("items.csv", "item_id,title\n1,One\n"))
    assert imported.summary.notes == [
        "no event is about an item of the catalogue; check that both files write item ids alike "
        "(events: 1.0, catalogue: 1)"
    ]
    assert not stop(interactions).summary.notes


def test_endings_may_be_in_capitals(write: Write, stop: Callable[..., Imported]) -> None:
    imported = stop(
        write("LOG.TSV", "user_id\titem_id\ttimestamp\nu\t1\t1\n"), write("B.CSV", "item_id,title\n1,One\n")
    )
    assert imported.summary.unknown_items == 0


def test_unknown_items_are_kept_and_reported(write: Write, stop: Callable[..., Imported]) -> None:
    interactions = write("a.csv", "user_id,item_id,timestamp\nu,x,1\nu,i1,2\nu,y,3\nu,x,4\n")
    items = write("items.csv", "item_id,title,price\ni1,One,2\ni2,Two,\n")
    imported = stop(interactions, items)
    assert imported.dataset.interactions.num_rows == 4
    assert imported.dataset.items["item_id"].to_pylist() == ["i1", "i2", "x", "y"]
    assert imported.dataset.items["title"].to_pylist() == ["One", "Two", None, None]
    assert (imported.summary.unknown_items, imported.summary.unknown_item_examples) == (2, ["x", "y"])


def test_a_saved_data_set_loads_as_it_was(write: Write, stop: Callable[..., Imported], tmp_path: Path) -> None:
    interactions = write("a.csv", "user_id,item_id,timestamp,split\nu,x,1,train\nu,i1,2,valid\n")
    items = write("items.csv", "item_id,title,categories,embedding_v\ni1,One,a|b,1 2\n")
    imported = stop(interactions, items)
    imported.dataset.save(tmp_path / "out")
    imported.summary.write(tmp_path / "out")
    again = load_dataset(tmp_path / "out")
    assert again.interactions.equals(imported.dataset.interactions)
    assert again.items.equals(imported.dataset.items)
    summary = json.loads((tmp_path / "out" / "import.json").read_text())
    assert summary["tables"]["interactions"]["rows_read"] == 2
    assert summary["rows_rejected"] == 0


def test_saving_again_leaves_nothing_of_the_old(write: Write, stop: Callable[..., Imported], tmp_path: Path) -> None:
    old = stop(write("a.csv", "user_id,item_id,timestamp\nu,x,1\n")).dataset
    replace(old, users=pa.table({"user_id": ["u"]})).save(tmp_path / "out")
    old.save(tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"interactions.parquet", "items.parquet"}


def log(rows: list[tuple[int, int, int]]) -> pa.Table:
    users, items, times = zip(*rows, strict=True)
    return pa.table(
        {"user_id": [str(one) for one in users], "item_id": [str(one) for one in items], "timestamp": list(times)}
    )


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@settings(max_examples=80)
@given(ROWS, st.booleans())
def test_repeats_and_backward_steps_agree_with_slow_twins(rows: list[tuple[int, int, int]], below: bool) -> None:
    """Half of the logs tell half seconds: a time of 3 is then 1.5 seconds."""
    table = log(rows)
    if below:
        halves = table["timestamp"].to_numpy()
        table = table.set_column(2, "timestamp", pa.array(halves // 2))
        table = table.append_column("nanoseconds_of_second", pa.array(halves % 2 * 500_000_000, pa.int32()))
    assert repeated_events(table).tolist() == [at for at, row in enumerate(rows) if row in rows[:at]]
    users = [user for user, _, _ in rows]
    assert repeated_values(table["user_id"]).tolist() == [at for at, one in enumerate(users) if one in users[:at]]
    steps = 0
    newest: dict[int, int] = {}
    for user, _, time in rows:
        steps += time < newest.get(user, time)
        newest[user] = time
    assert backward_steps(table) == steps
    ordered = sort_by_time(table)
    expected = sorted(rows, key=lambda row: row[2])
    assert ordered["item_id"].to_pylist() == [str(item) for _, item, _ in expected]
    assert ordered["user_id"].to_pylist() == [str(user) for user, _, _ in expected]


@settings(max_examples=60)
@given(ROWS)
def test_nothing_is_lost(rows: list[tuple[int, int, int]]) -> None:
    distinct = list(dict.fromkeys(rows))
    raw = RawDataset("test", (RawTable("memory", log(distinct), rows_as_lines),))
    imported = import_dataset(raw, Rejects("stop"))
    table = imported.dataset.interactions
    found = zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), table["timestamp"].to_pylist(), strict=True)
    assert sorted(found) == sorted((str(user), str(item), time) for user, item, time in distinct)
    for user in set(table["user_id"].to_pylist()):
        mine = table.filter(pa.array([one == user for one in table["user_id"].to_pylist()]))
        assert np.all(np.diff(mine["timestamp"].to_numpy()) >= 0)
