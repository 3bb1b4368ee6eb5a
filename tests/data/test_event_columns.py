"""Values, scenes, devices and users' attributes on their way from the tables into sequences."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from asterism.core.hashing import label_code
from asterism.data.attributes import ATTRIBUTE_CODES, UserAttributes, categorical_columns
from asterism.data.contexts import CONTEXT_CODES, context_code
from asterism.data.dataset import Dataset
from asterism.data.sequences import Asked, Sequences
from asterism.data.splits import by_time, leave_one_out

HOME, SEARCH, PHONE = context_code("home"), context_code("search"), context_code("phone")


def market(**columns: object) -> Dataset:
    """Users v and u; u's events stand in the file out of order, and one of them is a skip."""
    table = {
        "user_id": ["v", "u", "u", "u", "v", "u", "v"],
        "item_id": list("abcdeaf"),
        "timestamp": [50, 30, 10, 20, 60, 15, 70],
        "action": ["click", "rating", "click", "view", "click", "skip", "click"],
        "value": pa.array([None, 4.5, None, 12.0, None, 3.0, None], pa.float64()),
        "scene": ["home", "home", None, "search", "home", "home", "search"],
        **columns,
    }
    users = pa.table({"user_id": list("uwvxy"), "city": ["Rome", "Oslo", None, "Rome", "Oslo"], "born": range(5)})
    items = pa.table({"item_id": list("abcdef")})
    return Dataset(pa.table(table), items, users)


def test_columns_follow_their_events_into_training_and_cases() -> None:
    split = leave_one_out(market())
    assert split.users.ids == ("v", "u")
    assert split.train.items.tolist() == [0, 2], "a of v, c of u"
    assert split.train.scenes is not None
    assert split.train.scenes.tolist() == [HOME, 0]
    test = split.test.histories
    assert test.items.tolist() == [0, 4, 2, 3]
    assert test.values is not None
    np.testing.assert_array_equal(test.values, np.array([np.nan, np.nan, np.nan, 12.0], dtype=np.float32))
    assert test.scenes is not None
    assert test.scenes.tolist() == [HOME, HOME, 0, SEARCH]


def test_a_case_knows_when_and_where_it_is_asked_but_not_the_answers_value() -> None:
    asked = leave_one_out(market()).test.histories.asked
    assert asked is not None
    assert asked.timestamps.tolist() == [70, 30]
    assert asked.scenes is not None
    assert asked.scenes.tolist() == [SEARCH, HOME]
    assert asked.devices is None
    assert leave_one_out(market()).train.asked is None


def test_attributes_follow_their_users() -> None:
    split = leave_one_out(market())
    rome = label_code("city=Rome", ATTRIBUTE_CODES)
    assert split.train.attributes is not None
    assert split.train.attributes.tolist() == [[0], [rome]], "v lives nowhere; `born` differs for each user"
    one = split.test.take(np.array([1, 1])).histories
    assert one.attributes is not None
    assert one.asked is not None
    assert (one.attributes.tolist(), one.asked.timestamps.tolist()) == ([[rome], [rome]], [30, 30])
    assert by_time(market(), 0.2, 0.2).train.attributes is not None


def test_columns_without_content_cost_nothing() -> None:
    empty = pa.nulls(7, pa.string())
    split = leave_one_out(market(value=pa.nulls(7, pa.float64()), scene=empty, device=empty))
    assert (split.train.values, split.train.scenes, split.train.devices) == (None, None, None)
    assert leave_one_out(market(device=["phone"] * 7)).train.devices.tolist() == [PHONE, PHONE]  # type: ignore[union-attr]


def test_codes_are_stable_and_leave_zero_for_none() -> None:
    assert (context_code(None), context_code("")) == (0, 0)
    assert [context_code("home"), context_code("search"), label_code("x", 7)] == [17786, 61832, 3]
    codes = [context_code(str(number)) for number in range(2000)]
    assert min(codes) >= 1
    assert max(codes) <= CONTEXT_CODES
    assert len(set(codes)) > 1900, "few labels share a code"


def test_a_category_is_shared_by_users() -> None:
    count = 400
    users = pa.table(
        {
            "user_id": [str(user) for user in range(count)],
            "name": [f"name {user}" for user in range(count)],
            "city": [f"city {user % 200}" for user in range(count)],
            "age": [user % 100 for user in range(count)],
            "joined": [user % 101 for user in range(count)],
            "member": [user % 2 == 0 for user in range(count)],
            "country": ["Mars"] * count,
            "tags": [["a"]] * count,
        }
    )
    assert categorical_columns(users) == ["city", "age", "member"]
    assert UserAttributes.of(users.select(["user_id", "name"])) is None


def test_unknown_users_have_no_attributes() -> None:
    known = UserAttributes.of(pa.table({"user_id": list("abcd"), "city": ["Rome", "Rome", "Oslo", "Oslo"]}))
    assert known is not None
    found = known.rows(["nobody", "c", "d"])
    assert found[0].tolist() == [0]
    assert found[1, 0] == found[2, 0] == label_code("city=Oslo", ATTRIBUTE_CODES)


def test_ranges_need_the_rows_they_are_parts_of() -> None:
    one = Sequences(np.array([0, 2]), np.arange(2, dtype=np.int32), np.arange(2), np.zeros(2, np.int8))
    with pytest.raises(ValueError, match="2 ranges cannot be parts of 1 rows"):
        one.slices(np.array([0, 1]), np.array([1, 2]))
    assert Asked(np.array([5, 6])).take(np.array([1])).timestamps.tolist() == [6]
