"""Every parser on values worked out by hand."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.records import ACTION_CODES
from asterism.data import columns, timestamps
from asterism.data.timestamps import TimestampUnit, parse_timestamp


def column(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def bad_rows(parsed: columns.Parsed) -> dict[str, list[int]]:
    return {reason: rows.tolist() for reason, rows in parsed.bad.items()}


def test_ids_are_text_whatever_their_type() -> None:
    assert columns.parse_id(column([1, 20])).values.to_pylist() == ["1", "20"]
    assert columns.parse_id(column([1.0, 2.5])).values.to_pylist() == ["1", "2.5"]
    assert columns.parse_id(column(["a", "b"], pa.large_string())).values.type == pa.string()
    assert columns.parse_id(pa.chunked_array([pa.array(["a", "a"]).dictionary_encode()])).values.to_pylist() == [
        "a",
        "a",
    ]


def test_blank_and_missing_ids_are_bad() -> None:
    parsed = columns.parse_id(column(["a", "", None, "  ", " b"]))
    assert bad_rows(parsed) == {"the id is empty": [1, 2, 3]}


def test_numbers() -> None:
    parsed = columns.parse_number(column(["1.5", " 2 ", "", None, "1e3", "many", "0x10", "-4"]), minimum=0.0)
    assert parsed.values.to_pylist() == [1.5, 2.0, None, None, 1000.0, None, None, -4.0]
    assert bad_rows(parsed) == {"the value is not a number": [5, 6], "the number is below 0": [7]}


def test_a_number_must_be_finite() -> None:
    parsed = columns.parse_number(column([1.0, math.nan, math.inf]))
    assert bad_rows(parsed) == {"the number is not finite": [1, 2]}


def test_timestamps_from_text() -> None:
    texts = ["964982703", "964982703.0", "9.64982703E8", "1.5", "soon", "", "-3", " 7 "]
    parsed = parse_timestamp(column(texts))
    assert parsed.values.to_pylist() == [964982703, 964982703, 964982703, None, None, None, -3, 7]
    assert bad_rows(parsed) == {
        "the timestamp is missing": [5],
        "the timestamp is not a whole number of Unix seconds": [3, 4],
        "the timestamp is negative": [6],
    }


def test_moments_in_iso_8601() -> None:
    texts = ["2020-09-13T12:26:40", "2020-09-13 14:26:40.9+02:00", " 2020-09-13 ", "2020-09-13T12:26:40Z", None, ""]
    parsed = parse_timestamp(column([*texts, "1600000000", "2020-02-31"]))
    assert parsed.values.to_pylist() == [1600000000, 1600000000, 1599955200, 1600000000, None, None, None, None]
    assert bad_rows(parsed) == {"the timestamp is missing": [4, 5], timestamps.NOT_ISO: [6, 7]}


@pytest.mark.parametrize("kind", [pa.float64(), pa.string()])
def test_a_clocks_fractions_of_a_second_are_cut_off(kind: pa.DataType) -> None:
    clock = parse_timestamp(column([1600000000.25, 1600000001.75, 1600000002.0, 1e300]).cast(kind))
    assert clock.values.to_pylist() == [1600000000, 1600000001, 1600000002, None]
    assert bad_rows(clock) == {"the timestamp is not a whole number of Unix seconds": [3]}
    assert bad_rows(parse_timestamp(column([0.5, 1.5]).cast(kind))) != {}, "no clock counts from half a second"


def test_a_large_whole_number_keeps_every_digit() -> None:
    parsed = parse_timestamp(column(["1700000000123", "oops"]), unit="ms")
    assert parsed.values.to_pylist() == [1700000000, None]
    assert parse_timestamp(column([9007199254740993])).values.to_pylist() == [9007199254740993]


@pytest.mark.parametrize(
    ("unit", "values", "expected", "bad"),
    [
        ("s", [100_000_000_000, 5], [100_000_000_000, 5], {timestamps.TOO_LARGE: [0]}),
        ("ms", [1_700_000_000_999, 1_700_000_000], [1_700_000_000, 1_700_000], {timestamps.TOO_SMALL: [1]}),
        ("ms", [1_700_000_000_000_000], [1_700_000_000_000], {timestamps.TOO_LARGE: [0]}),
        ("auto", [1_700_000_000_999, 1_700_000_001_000], [1_700_000_000, 1_700_000_001], {}),
        ("auto", [1_700_000_000, 1_700_000_001], [1_700_000_000, 1_700_000_001], {}),
    ],
)
def test_units(unit: TimestampUnit, values: list[int], expected: list[int], bad: dict[str, list[int]]) -> None:
    parsed = parse_timestamp(column(values), unit)
    assert parsed.values.to_pylist() == expected
    assert bad_rows(parsed) == bad


def test_arrow_timestamps_become_seconds() -> None:
    moment = column([datetime(1970, 1, 2), None], pa.timestamp("us"))
    parsed = parse_timestamp(moment)
    assert parsed.values.to_pylist() == [86400, None]
    assert bad_rows(parsed) == {"the timestamp is missing": [1]}


def test_actions() -> None:
    parsed = columns.parse_choice(column(["click", " View ", "", None, "teleport"]), tuple(ACTION_CODES), "click")
    assert parsed.values.to_pylist()[:4] == ["click", "view", "click", "click"]
    (reason,) = parsed.bad
    assert "purchase" in reason
    assert parsed.bad[reason].tolist() == [4]


def test_flags() -> None:
    parsed = columns.parse_flag(column(["true", "0", "YES", "", "perhaps"]))
    assert parsed.values.to_pylist() == [True, False, True, None, None]
    assert bad_rows(parsed) == {"the value is neither true nor false": [4]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Action, Comedy", ["Action", "Comedy"]),
        ("Action|Comedy", ["Action", "Comedy"]),
        ("Hair, Care | Skin", ["Hair, Care", "Skin"]),
        ("['Action', 'Comedy']", ["Action", "Comedy"]),
        ("One", ["One"]),
        (" , ", None),
        ("", None),
        (None, None),
    ],
)
def test_categories(given: str | None, expected: list[str] | None) -> None:
    assert columns.parse_categories(column([given], pa.string())).values.to_pylist() == [expected]


def test_categories_that_are_lists_already() -> None:
    parsed = columns.parse_categories(column([["a"], None], pa.large_list(pa.large_string())))
    assert parsed.values.to_pylist() == [["a"], None]
    assert parsed.values.type == pa.list_(pa.string())


def test_embeddings_share_one_width() -> None:
    parsed = columns.parse_embedding(column(["[0.5, 1]", "2 3", "[1,2,3]", "", "[a, b]"]))
    assert parsed.values.to_pylist()[:2] == [[0.5, 1.0], [2.0, 3.0]]
    assert bad_rows(parsed) == {
        "the vector holds something else than numbers": [4],
        "the vector's width is not 2, which is that of the others": [2],
    }
    broken = columns.parse_embedding(column([[1.0, 2.0], [math.nan, 1.0], None, [], [1.0, None], [1.0, math.inf]]))
    assert bad_rows(broken) == {"the vector holds a number that is not finite": [1, 4, 5]}
    assert broken.values.is_null().to_pylist() == [False, False, True, True, False, False]
    lists = columns.parse_embedding(column([[1.0, 2.0], None]))
    assert lists.values.type == pa.list_(pa.float32())
    assert not lists.bad


@settings(max_examples=60)
@given(st.lists(st.one_of(st.integers(0, 10**10), st.text(max_size=6)), min_size=1, max_size=20))
def test_the_fast_parser_agrees_with_a_slow_one(values: list[int | str]) -> None:
    texts = [str(value) for value in values]
    parsed = parse_timestamp(column(texts, pa.string()))
    broken = set(np.concatenate([rows for rows in parsed.bad.values()] or [np.empty(0)]).tolist())
    for row, text in enumerate(texts):
        if text.isascii() and text.strip(" ").isdigit() and int(text) < timestamps.MILLISECONDS_FROM:
            assert parsed.values[row].as_py() == int(text)
            assert row not in broken
        elif not any(letter.isdigit() for letter in text):
            assert row in broken
