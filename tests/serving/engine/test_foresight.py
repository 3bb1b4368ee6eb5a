"""When an engine says that it is nearly done; times are seconds from a batch's beginning."""

from __future__ import annotations

import pytest

from asterism.serving.engine.foresight import Foresight


def batch(foresight: Foresight, steps: list[float], end: float | None, began: float = 100.0) -> list[bool]:
    """What was said at each step; without an end it was left."""
    foresight.begin(began)
    said = [foresight.says(began + one) for one in steps]
    if end is not None:
        foresight.end(began + end)
    return said


def test_nothing_is_said_before_a_batch_has_been_seen_to_its_end() -> None:
    foresight = Foresight()
    assert batch(foresight, [0.001, 0.002], None) == [False, False]
    assert batch(foresight, [0.001, 0.002], 0.0025) == [False, False]
    assert batch(foresight, [0.001, 0.002], 0.0025) == [False, True]


def test_it_is_said_once_and_at_the_first_step_after_which_a_millisecond_or_less_is_left() -> None:
    foresight = Foresight()
    batch(foresight, [0.001, 0.0015, 0.002], 0.0024)
    assert batch(foresight, [0.001, 0.0015, 0.002], 0.0024) == [False, True, False]  # 1.4, 0.9 and 0.4 ms before
    assert batch(foresight, [0.0005, 0.00075, 0.001], 0.0012) == [True, False, False]  # half the rows: 0.7 ms before


def test_a_batch_of_few_long_steps_is_let_come_to_its_end() -> None:
    foresight = Foresight()
    for _ in range(3):
        assert batch(foresight, [0.0, 0.02, 0.04], 0.06) == [False, False, False]


def test_it_follows_what_batches_do() -> None:
    foresight = Foresight()
    batch(foresight, [0.001], 0.003)
    assert batch(foresight, [0.001], 0.0015) == [False]
    said = [batch(foresight, [0.001], 0.0015)[0] for _ in range(50)]
    assert said[-1], "what is left is half of what was taken"
    assert said == sorted(said)


def test_where_some_batches_go_on_for_long_little_is_said() -> None:
    foresight = Foresight()
    for _ in range(50):
        batch(foresight, [0.0007], 0.001)
    assert batch(foresight, [0.0007], 0.04) == [True]
    assert not any(batch(foresight, [0.0007], 0.001)[0] for _ in range(20))


@pytest.mark.parametrize("steps", [63, 64, 65, 1000])
def test_however_many_steps_a_batch_has_little_is_kept(steps: int) -> None:
    foresight = Foresight()
    for _ in range(2):
        batch(foresight, [0.0001 * (one + 1) for one in range(steps)], 0.0001 * (steps + 1))
    assert len(foresight._left) == len(foresight._taken) == min(steps, 64)
