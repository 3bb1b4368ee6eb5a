"""What batches cost: the shape by hand, the speed followed, stalls and drifts told apart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.errors import ConfigError
from asterism.serving.scheduling import CostModel, CostSample, useful_widths, width_ladder
from asterism.serving.scheduling.cost_model import CostShape, fit_shape


def sampled(shape: CostShape) -> list[CostSample]:
    return [CostSample(rows, width, shape.seconds(rows, width)) for rows in (1, 8, 32) for width in (25, 200)]


def test_the_shape_is_found_again() -> None:
    # 4 ms a batch, 0.5 ms a request, 20 µs a path: 8 requests 200 wide take 4 + 8 * (0.5 + 4) = 40 ms
    shape = fit_shape(sampled(CostShape(4e-3, 5e-4, 2e-5)))
    assert shape == pytest.approx((4e-3, 5e-4, 2e-5))
    assert shape.seconds(8, 200) == pytest.approx(0.040)


def test_a_width_that_costs_nothing_has_no_negative_price() -> None:
    shape = fit_shape([CostSample(1, 10, 0.0064), CostSample(1, 20, 0.0060), CostSample(9, 10, 0.0144)])
    assert shape.per_path == 0.0
    assert shape.fixed > 0.0
    assert shape.per_row == pytest.approx(0.001, rel=0.1)


def test_few_samples_are_their_mean() -> None:
    assert fit_shape([CostSample(1, 0, 0.2)]).seconds(7, 0) == 0.2
    assert fit_shape([]).seconds(1, 0) > 0.0


def test_a_machine_twice_as_slow_is_noticed_and_one_stall_is_not() -> None:
    costs = CostModel(sampled(CostShape(4e-3, 5e-4, 2e-5)))
    costs.observe(8, 200, 5.0)  # a stall of seconds counts as a doubling, once
    assert costs.speed == pytest.approx(2**0.15)
    for _ in range(60):
        costs.observe(8, 200, 0.080)
    assert costs.speed == pytest.approx(2.0, rel=0.01)
    assert costs.seconds(8, 25) == pytest.approx(2 * (4e-3 + 8 * (5e-4 + 25 * 2e-5)), rel=0.01)


def test_the_spread_is_the_mean_relative_deviation() -> None:
    costs = CostModel(sampled(CostShape(4e-3, 5e-4, 2e-5)))
    for number in range(400):
        costs.observe(8, 200, 0.040 * math.exp(0.3 if number % 2 else -0.3))
    assert costs.spread == pytest.approx(0.3, rel=0.15)
    assert costs.likely_seconds(8, 200) == pytest.approx(costs.seconds(8, 200) * (1 + 2 * costs.spread))


@given(st.integers(1, 200), st.floats(0.0, 0.2), st.integers(1, 64))
def test_most_rows_is_the_largest_batch_that_fits(width: int, seconds: float, at_most: int) -> None:
    costs = CostModel(sampled(CostShape(4e-3, 5e-4, 2e-5)))
    fitting = [rows for rows in range(1, at_most + 1) if costs.likely_seconds(rows, width) <= seconds]
    assert costs.most_rows(width, seconds, at_most) == max(fitting, default=0)


def test_ladders_by_hand() -> None:
    assert width_ladder(200) == (200, 100, 50, 25)
    assert width_ladder(20, 6) == (20, 10, 6)
    assert width_ladder(20, 20) == (20,)
    assert width_ladder(5) == (5, 2, 1)
    assert width_ladder(1) == (1,)
    for floor in (0, 21):
        with pytest.raises(ConfigError, match="give one from 1 to the configured beam of 20"):
            width_ladder(20, floor)


def test_a_width_that_buys_nothing_is_not_used() -> None:
    dear = CostModel(sampled(CostShape(4e-3, 5e-4, 2e-5)))
    assert useful_widths((200, 100, 50, 25), dear, 32) == (200, 100, 50, 25)
    cheap = CostModel(sampled(CostShape(4e-3, 1e-3, 1e-7)))  # 200 paths take 20 µs of a request's millisecond
    assert useful_widths((200, 100, 50, 25), cheap, 32) == (200,)
