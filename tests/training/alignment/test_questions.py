"""What alignment asks for: the newest training events, each from what came before."""

import numpy as np
import pytest

from asterism.core.errors import TrainingError
from asterism.core.records import ACTION_CODES
from asterism.data.preferences import PreferencePairs
from asterism.training.alignment.questions import newest_questions
from worlds import sequences_of

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
