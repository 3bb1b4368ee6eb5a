"""Columns of more text than 32-bit offsets can hold, 2 GiB: rows are taken from them all the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from asterism.data import repeats
from asterism.data.raw import RawTable, rows_as_lines
from asterism.data.rejects import Finding, Rejects
from asterism.data.repeats import repeated_events, take_rows

ROWS = 80


@pytest.fixture(scope="module")
def long_text() -> pa.ChunkedArray:
    """80 chunks that share one text of 30 MiB: 2.3 GiB to Arrow, 30 MiB to the machine."""
    one = pa.array(["x" * (30 << 20)])
    return pa.chunked_array([one] * ROWS)


def test_repeats_are_found_beside_long_text(long_text: pa.ChunkedArray) -> None:
    numbers = [*range(ROWS - 1), 0]
    ids = [str(one) for one in numbers]
    log = pa.table({"user_id": ids, "item_id": ids, "timestamp": numbers, "scene": long_text})
    assert repeated_events(log).tolist() == [ROWS - 1]


def test_a_bad_row_is_written_from_among_long_text(long_text: pa.ChunkedArray, tmp_path: Path) -> None:
    table = pa.table({"title": long_text, "price": range(ROWS)})
    rejects = Rejects("reject", tmp_path / "rejects.jsonl")
    keep = rejects.refuse(RawTable("items", table, rows_as_lines), [Finding("price", "bad", np.array([3]))])
    assert np.flatnonzero(~keep).tolist() == [3]
    written = json.loads((tmp_path / "rejects.jsonl").read_text())
    assert (written["line"], written["row"]["price"]) == (4, 3)


@pytest.mark.parametrize("bytes_a_piece", [1, 7, 1 << 20])
def test_taking_in_pieces_agrees_with_taking_at_once(monkeypatch: pytest.MonkeyPatch, bytes_a_piece: int) -> None:
    rng = np.random.default_rng(0)
    texts = [None if length == 0 else "é" * int(length) for length in rng.integers(0, 4, 50)]
    chunks = pa.chunked_array([pa.array(texts[:20]), pa.array(texts[20:])])
    table = pa.table({"scene": chunks, "timestamp": range(50), "nothing": pa.nulls(50, pa.string())})
    order = rng.permutation(50)
    monkeypatch.setattr(repeats, "_PIECE_BYTES", bytes_a_piece)
    taken = take_rows(table, order)
    assert taken.equals(table.take(pa.array(order)))
    assert take_rows(table, order[:0]).num_rows == 0
