"""Splits worked out by hand, and what must hold for every log."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.config import DataConfig
from asterism.core.errors import DataError
from asterism.core.records import ACTION_CODES, ACTIONS
from asterism.data.dataset import Dataset
from asterism.data.sequences import Cases, Sequences
from asterism.data.split import Split
from asterism.data.splits import by_column, by_time, leave_one_out, split_dataset

Event = tuple[str, str, int]


def dataset(events: list[Event], items: str = "", actions: list[str] | None = None, **columns: list[str]) -> Dataset:
    users, touched, times = (list(one) for one in zip(*events, strict=True))
    table = {
        "user_id": pa.array(users, pa.string()),
        "item_id": pa.array(touched, pa.string()),
        "timestamp": pa.array(times, pa.int64()),
        "action": actions or ["click"] * len(events),
        **columns,
    }
    return Dataset(pa.table(table), pa.table({"item_id": pa.array(list(items), pa.string())}))


def rows(split: Split, sequences: Sequences) -> list[str]:
    ids = split.items.ids
    return ["".join(ids[item] for item in sequences.items[sequences.row(row)]) for row in range(len(sequences))]


def cases(split: Split, name: str) -> list[tuple[str, str, str]]:
    """(user, history, target) of each case."""
    part: Cases = split.cases(name)  # type: ignore[arg-type]
    histories = rows(split, part.histories)
    return [
        (split.users.id_of(user), history, split.items.id_of(target))
        for user, history, target in zip(part.users.tolist(), histories, part.targets.tolist(), strict=True)
    ]


U_V_W: list[Event] = [
    ("v", "a", 5), ("u", "b", 1), ("u", "a", 4), ("u", "c", 2), ("u", "d", 3),
    ("v", "c", 6), ("w", "b", 1), ("w", "d", 2), ("w", "z", 9),
]  # fmt: skip


def test_leave_one_out() -> None:
    split = leave_one_out(dataset(U_V_W, items="dcbay"))
    assert split.users.ids == ("v", "u", "w")
    assert split.items.ids == ("d", "c", "b", "a", "y", "z")
    assert rows(split, split.train) == ["ac", "bc", "b"]
    assert cases(split, "validation") == [("u", "bc", "d"), ("w", "b", "d")]
    assert cases(split, "test") == [("u", "bcd", "a"), ("w", "bd", "z")]
    assert split.test.timestamps.tolist() == [4, 9]
    assert split.train.timestamps.tolist() == [5, 6, 1, 2, 1]


def test_a_case_says_what_was_done_with_its_target() -> None:
    actions = ["click", "click", "purchase", "view", "click", "click", "share", "cart", "click"]
    split = leave_one_out(dataset(U_V_W, actions=actions))
    done = [[ACTIONS[code] for code in part.actions] for part in (split.validation, split.test)]
    assert done == [["click", "cart"], ["purchase", "click"]]
    assert split.test.take(np.array([1, 0])).actions.tolist() == split.test.actions[::-1].tolist()


def test_only_positive_actions_enter() -> None:
    events = [("u", item, time) for time, item in enumerate("abcde")] + [("n", "a", 7)]
    actions = ["click", "skip", "purchase", "impression", "view", "dislike"]
    split = leave_one_out(dataset(events, "abcde", actions))
    assert rows(split, split.train) == ["a", ""]
    assert cases(split, "test") == [("u", "ac", "e")]
    assert split.test.histories.actions.tolist() == [ACTION_CODES["click"], ACTION_CODES["purchase"]]


def test_equal_timestamps_keep_the_order_of_the_file() -> None:
    split = leave_one_out(dataset([("u", item, 7) for item in "cab"], "abc"))
    assert cases(split, "test") == [("u", "ca", "b")]


def test_nothing_positive_is_an_error() -> None:
    with pytest.raises(DataError, match="no event is a positive one"):
        leave_one_out(dataset([("u", "a", 1)], "a", ["skip"]))


def test_by_time() -> None:
    events = [(user, item, time) for time, (user, item) in enumerate(zip("uuvuvuwuvv", "abcdefghij", strict=True))]
    split = by_time(dataset(events, "abcdefghij"), validation_share=0.3, test_share=0.3)
    assert rows(split, split.train) == ["abd", "c", ""]
    assert cases(split, "validation") == [("u", "abd", "f"), ("v", "c", "e"), ("w", "", "g")]
    assert cases(split, "test") == [("u", "abdf", "h"), ("v", "ce", "i")]


def test_by_time_keeps_one_second_together() -> None:
    events = [("u", "a", 1), ("v", "a", 1), ("u", "b", 2), ("v", "b", 2), ("u", "c", 3), ("v", "c", 3)]
    split = by_time(dataset(events, "abc"), validation_share=0.2, test_share=0.2)
    assert split.train.timestamps.max() == 1
    assert split.validation.timestamps.tolist() == [2, 2]
    assert split.test.timestamps.tolist() == [3, 3]


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, 0.0), (0.5, 0.5)])
def test_by_time_refuses_shares_that_leave_a_part_empty(shares: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="leave a part without events"):
        by_time(dataset(U_V_W), *shares)


def test_by_time_refuses_one_moment() -> None:
    with pytest.raises(DataError, match="share one timestamp"):
        by_time(dataset([("u", "a", 1), ("v", "a", 1), ("u", "b", 1)]), 0.3, 0.3)


def test_by_column() -> None:
    events = [("u", item, time) for time, item in enumerate("abcd")] + [("v", "a", 0), ("v", "b", 1)]
    parts = ["train", "train", "validation", "validation", "train", "test"]
    split = by_column(dataset(events, "abcd", split=parts))
    assert rows(split, split.train) == ["ab", "a"]
    assert cases(split, "validation") == [("u", "ab", "c"), ("u", "abc", "d")]
    assert cases(split, "test") == [("v", "a", "b")]


def test_by_column_warns_of_a_leak(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        split = by_column(dataset([("u", "a", 1), ("u", "b", 2)], split=["test", "train"]))
    assert cases(split, "test") == [("u", "", "a")]
    assert "1 users, such as 'u', have a training event later than one of their targets" in caplog.text


def test_by_column_needs_the_column() -> None:
    with pytest.raises(DataError, match="no such column"):
        by_column(dataset(U_V_W))
    with pytest.raises(DataError, match="1 interactions are in no part"):
        by_column(dataset([("u", "a", 1), ("u", "b", 2)], split=["train", None]))  # type: ignore[list-item]


def test_the_configuration_chooses() -> None:
    data = dataset(U_V_W, split=["train"] * 8 + ["test"])
    assert len(split_dataset(data, DataConfig(path="x", split="by_column")).test) == 1
    assert len(split_dataset(data, DataConfig(path="x")).test) == 2
    shares = DataConfig(path="x", split="by_time", validation_share=0.2, test_share=0.2)
    assert len(split_dataset(data, shares).test) == 2


LOGS = st.lists(
    st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcde"), st.integers(0, 30)), min_size=6, max_size=60
)


@settings(max_examples=80)
@given(LOGS)
def test_leave_one_out_agrees_with_a_slow_twin(events: list[Event]) -> None:
    split = leave_one_out(dataset(events, "abcde"))
    train, validation, test = [], [], []
    for user in dict.fromkeys(user for user, _, _ in events):
        ordered = sorted((one for one in events if one[0] == user), key=lambda one: one[2])
        line = "".join(item for _, item, _ in ordered)
        train.append(line[:-2] if len(line) >= 3 else line)
        if len(line) >= 3:
            validation.append((user, line[:-2], line[-2]))
            test.append((user, line[:-1], line[-1]))
    assert rows(split, split.train) == train
    assert cases(split, "validation") == validation
    assert cases(split, "test") == test


@settings(max_examples=80)
@given(LOGS, st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_no_training_event_is_as_late_as_a_target(events: list[Event], validation: float, test: float) -> None:
    try:
        split = by_time(dataset(events, "abcde"), validation, test)
    except DataError:
        return
    assert len(split.validation)
    assert len(split.test)
    assert split.train.timestamps.max() < split.validation.timestamps.min()
    assert split.validation.timestamps.max() < split.test.timestamps.min()
    for part in (split.validation, split.test):
        newest = [int(part.histories.timestamps[part.histories.row(row)].max(initial=-1)) for row in range(len(part))]
        assert np.all(np.array(newest) <= part.timestamps)
        assert len(set(part.users.tolist())) == len(part)


@settings(max_examples=60)
@given(LOGS)
def test_no_user_trains_on_what_follows_their_targets(events: list[Event]) -> None:
    split = leave_one_out(dataset(events, "abcde"))
    for part in (split.validation, split.test):
        for user, time in zip(part.users.tolist(), part.timestamps.tolist(), strict=True):
            assert split.train.timestamps[split.train.row(user)].max() <= time
