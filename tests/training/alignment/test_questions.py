"""What alignment asks for: the newest training events, each from what came before."""

from dataclasses import replace

import numpy as np
import pytest

from asterism.core.errors import TrainingError
from asterism.core.records import ACTION_CODES
from asterism.data.preferences import PreferencePairs
from asterism.training.alignment.questions import held_out_questions, newest_questions
from worlds import cases_of, sequences_of

TRAIN = sequences_of([[4, 5, 6, 7], [1], [2, 3], []])


def test_the_newest_event_of_every_row_that_has_one_before_it() -> None:
    found = newest_questions(TRAIN, 1)
    assert found.cases.targets.tolist() == [7, 3]
    assert found.cases.users.tolist() == [0, 2]
    assert [found.cases.histories.items[found.cases.histories.row(row)].tolist() for row in range(2)] == [
        [4, 5, 6],
        [2],
    ]
    assert found.cases.histories.asked is not None
    assert found.cases.histories.asked.timestamps.tolist() == found.cases.timestamps.tolist() == [3, 1]
    assert [found.earlier.items[found.earlier.row(row)].tolist() for row in range(4)] == [[4, 5, 6], [1], [2], []]


def test_several_newest_events_but_never_the_first() -> None:
    found = newest_questions(TRAIN, 2)
    assert found.cases.targets.tolist() == [6, 7, 3]
    histories = found.cases.histories
    assert [histories.items[histories.row(row)].tolist() for row in range(3)] == [[4, 5], [4, 5, 6], [2]]
    assert found.earlier.lengths.tolist() == [2, 1, 1, 0]


def test_values_and_rejected_items_are_those_of_the_event() -> None:
    actions = TRAIN.actions.copy()
    actions[3] = ACTION_CODES["purchase"]
    train = TRAIN.last(9)
    object.__setattr__(train, "actions", actions)
    pairs = PreferencePairs(np.arange(7, dtype=np.int32)[:, None] * 10, np.ones(7, dtype=np.float32))
    found = newest_questions(train, 1, pairs)
    assert found.values.tolist() == [3, 1]
    assert found.rejected.tolist() == [[30], [60]]


def test_rows_of_one_event_have_nothing_to_ask() -> None:
    with pytest.raises(TrainingError, match="no user has two training events"):
        newest_questions(sequences_of([[1], [2]]), 1)


def test_held_out_events_are_asked_or_steer_and_never_both() -> None:
    cases = cases_of([[row, row + 1] for row in range(10)], list(range(100, 110)))
    did = [ACTION_CODES[one] for one in ("click", "cart", "purchase", "rating", "share")]
    cases = replace(cases, actions=np.array(did * 2, dtype=np.int8))
    questions, steering = held_out_questions(cases, TRAIN, 0.3, seed=0)
    asked, left = questions.cases.targets.tolist(), steering.targets.tolist()
    assert len(asked) == 3
    assert sorted(asked + left) == list(range(100, 110))
    rows = [questions.cases.histories.items[questions.cases.histories.row(row)].tolist() for row in range(3)]
    assert rows == [[target - 100, target - 99] for target in asked]
    worth = [1, 2, 3, 1, 2] * 2
    assert questions.values.tolist() == [worth[target - 100] for target in asked]
    assert len(set(questions.values.tolist())) > 1
    assert questions.rejected.tolist() == [[-1]] * 3
    assert questions.earlier is TRAIN, "training saw nothing of what is asked"
    again, _ = held_out_questions(cases, TRAIN, 0.3, seed=1)
    assert again.cases.targets.tolist() != asked


def test_one_side_without_cases_is_an_error() -> None:
    with pytest.raises(
        TrainingError, match=r"held_out = 0\.9 of 2 validation cases leaves 2 to ask for and 0 to steer"
    ):
        held_out_questions(cases_of([[1], [2]], [3, 4]), TRAIN, 0.9, seed=0)
