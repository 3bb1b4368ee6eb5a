"""Categories and price ranges as filters."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.errors import RequestError
from asterism.data.item_attributes import ItemAttributes, Predicate, mask_of
from asterism.decoding import Trie, predicates
from asterism.decoding.predicates import PredicateFilters
from asterism.decoding.sieve import sieve_of
from decoding.table_policy import random_table

TABLE = pa.table(
    {
        "categories": pa.array([["toys", "wood"], None, ["wood", None], [], ["toys"]], pa.list_(pa.string())),
        "price": pa.array([1.0, 2.0, 3.0, None, 3.0]),
    }
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Predicate(), [0, 1, 2, 3, 4]),
        (Predicate(frozenset({"wood"})), [0, 2]),
        (Predicate(frozenset({"wood", "toys"})), [0, 2, 4]),
        (Predicate(lowest_price=2.0), [1, 2, 4]),
        (Predicate(highest_price=2.0), [0, 1]),
        (Predicate(frozenset({"toys"}), 3.0, 3.0), [4]),
    ],
)
def test_by_hand(asked: Predicate, expected: list[int]) -> None:
    for table in (TABLE, pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2)])):
        assert np.flatnonzero(mask_of(ItemAttributes.of_table(table), asked)).tolist() == expected


@given(
    rows=st.lists(
        st.tuples(st.none() | st.lists(st.sampled_from("abc")), st.none() | st.floats(0, 9)), min_size=1, max_size=20
    ),
    wanted=st.frozensets(st.sampled_from("abc")),
    bounds=st.tuples(st.none() | st.floats(0, 4), st.none() | st.floats(4, 9)),
)
def test_the_slow_way_agrees(
    rows: list[tuple[list[str] | None, float | None]],
    wanted: frozenset[str],
    bounds: tuple[float | None, float | None],
) -> None:
    known = {"a", "b", "c"} & {one for categories, _ in rows for one in categories or ()}
    wanted = wanted & known
    table = pa.table(
        {
            "categories": pa.array([one for one, _ in rows], pa.list_(pa.string())),
            "price": pa.array([one for _, one in rows], pa.float64()),
        }
    )
    low, high = bounds
    expected = [
        (not wanted or bool(wanted & set(categories or ())))
        and (low is None or (price is not None and price >= low))
        and (high is None or (price is not None and price <= high))
        for categories, price in rows
    ]
    assert mask_of(ItemAttributes.of_table(table), Predicate(wanted, low, high)).tolist() == expected


def test_a_table_without_attributes() -> None:
    attributes = ItemAttributes.of_table(pa.table({"item_id": ["x", "y"]}))
    assert mask_of(attributes, Predicate()).tolist() == [True, True]
    assert mask_of(attributes, Predicate(highest_price=1.0)).tolist() == [False, False]
    with pytest.raises(RequestError, match="no item has the category 'toys'"):
        mask_of(attributes, Predicate(frozenset({"toys"})))


def test_senseless_prices_are_refused() -> None:
    with pytest.raises(RequestError, match=r"no price lies between 3\.0 and 2\.0"):
        Predicate(lowest_price=3.0, highest_price=2.0)
    with pytest.raises(RequestError, match="not a number"):
        Predicate(lowest_price=float("nan"))


SIZES = (256, 256, 256)


def test_filters_are_kept_by_value_until_others_need_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = PredicateFilters(ItemAttributes.of_table(TABLE), SIZES)
    toys = kept.filter_of(Predicate(frozenset({"toys"})))
    monkeypatch.setattr(predicates, "_KEPT_BYTES", int(2.5 * kept.bytes))
    assert toys.listed().tolist() == [0, 4]
    kept.filter_of(Predicate(frozenset({"wood"})))
    assert kept.filter_of(Predicate(frozenset({"toys"}))) is toys
    kept.filter_of(Predicate(lowest_price=2.0))
    assert kept.filter_of(Predicate(frozenset({"toys"}))) is toys
    kept.filter_of(Predicate())
    kept.filter_of(Predicate(lowest_price=2.0))
    assert kept.filter_of(Predicate(frozenset({"toys"}))) is not toys


@pytest.mark.parametrize("sizes", [SIZES, (4, 1000, 3)])
def test_kept_filters_and_their_sieves_take_no_more_than_they_tell(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicates, "_KEPT_BYTES", 4 << 20)
    table = random_table(sizes, 300, 0)
    view = Trie.from_table(table).snapshot()
    prices = pa.table({"price": np.linspace(0.0, 100.0, 300), "categories": [[f"shelf {one}"] for one in range(300)]})
    kept = PredicateFilters(ItemAttributes.of_table(prices), sizes)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1000):
            shelves = frozenset(f"shelf {one}" for one in range(number % 100))
            sieve_of(kept.filter_of(Predicate(shelves, highest_price=20 + number / 100)), view)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 * kept.bytes < taken < kept.bytes <= 4 << 20


def test_a_filter_larger_than_the_room_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicates, "_KEPT_BYTES", 10)
    kept = PredicateFilters(ItemAttributes.of_table(TABLE), SIZES)
    cheap = kept.filter_of(Predicate(highest_price=2.0))
    one = kept.bytes
    assert kept.filter_of(Predicate(highest_price=2.0)) is cheap
    kept.filter_of(Predicate(highest_price=3.0))
    assert kept.bytes == one
    assert kept.filter_of(Predicate(highest_price=2.0)) is not cheap
