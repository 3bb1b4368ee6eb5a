"""Open-loop load in virtual time, where capacity is arithmetic."""

from __future__ import annotations

import pytest

from asterism.serving.scheduling.cost_model import CostShape
from serving.scheduling.virtual_load import run

#: 5 ms a batch, 1 ms a request, whatever the width.
FLAT = CostShape(5e-3, 1e-3, 0.0)
#: 4 ms a batch, and a request 4.5 ms 200 wide, 1 ms 25 wide.
WIDE = CostShape(4e-3, 5e-4, 2e-5)
WIDTHS = (200, 100, 50, 25)
#: A batch may take 22.5 ms of 50: (22.5 − 5) / 1 = 17 requests, and 17 / 22 ms = 773 a second.
FLAT_CAPACITY = 17 / 0.022
#: 200 wide: 4 requests in 22 ms. 25 wide: (22.5 − 4) / 1 = 18 requests in 22 ms.
FULL_CAPACITY = 4 / 0.022
FLOOR_CAPACITY = 18 / 0.022


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("engines", [1, 3])
def test_at_70_percent_everybody_is_answered_in_time_and_nearly_all_at_the_full_width(
    engines: int, noise: float
) -> None:
    for shape, widths, capacity in ((FLAT, (20, 10), FLAT_CAPACITY), (WIDE, WIDTHS, FULL_CAPACITY)):
        seen = run(shape, widths, 0.7 * engines * capacity, engines=engines, noise=noise)
        assert seen.percentile(99) < 0.05
        assert seen.answered > (0.999 if noise == 0 else 0.99)
        assert seen.share("degraded") < (0.0001 if shape is FLAT else 0.15 if noise == 0 else 0.3)
        assert seen.percentile(50) < 0.02


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_at_150_percent_of_the_full_width_it_degrades_and_sheds_nobody(noise: float) -> None:
    seen = run(WIDE, WIDTHS, 1.5 * FULL_CAPACITY, noise=noise)
    assert seen.answered > 0.999
    assert 0.3 < seen.share("degraded") < 0.95
    assert seen.percentile(99) <= 0.05


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("overload", [1.5, 3.0])
@pytest.mark.parametrize(
    ("shape", "widths", "capacity"), [(FLAT, (20,), FLAT_CAPACITY), (WIDE, WIDTHS, FLOOR_CAPACITY)]
)
def test_beyond_the_narrowest_width_it_sheds_what_arithmetic_says(
    shape: CostShape, widths: tuple[int, ...], capacity: float, overload: float, noise: float
) -> None:
    seen = run(shape, widths, overload * capacity, noise=noise)
    assert seen.percentile(99) <= 0.05
    assert seen.too_late <= 0.01 * seen.sent
    assert seen.share("late") < 0.01, "who cannot be answered is told so at once, not after waiting"
    assert seen.share("shed") == pytest.approx(1 - 1 / overload, abs=0.02 if noise == 0 else 0.12)
    assert seen.longest_line <= 2 * 18
    assert seen.largest_batch <= 18


def test_the_estimate_follows_a_machine_that_is_slower_than_it_was_measured() -> None:
    seen = run(CostShape(5e-3, 1e-3, 0.0), (20,), 2 * FLAT_CAPACITY, noise=0.5)
    assert seen.percentile(99) <= 0.06
    assert seen.answered > 0.2


def test_p99_at_70_percent_follows_from_what_a_batch_costs() -> None:
    """Lines are short at that load, so a batch that costs little is all that it takes."""
    shape = CostShape(1.0e-3, 2e-4, 0.0)
    seen = run(shape, (20,), 0.7 * 32 / shape.seconds(32, 20), seconds=10, noise=0.1)
    assert seen.percentile(99) <= 0.01
    assert seen.answered == 1.0


@pytest.mark.parametrize(
    ("shape", "widths", "p50", "p99"),
    [
        (CostShape(6e-4, 3e-4, 1e-6), (20, 10), 0.75, 0.8),  # histories are read
        (CostShape(5e-4, 5e-5, 2.5e-6), (20, 10), 0.75, 0.75),  # nothing new
        (WIDE, WIDTHS, 1.0, 1.03),  # long batches, of which the way is little
    ],
)
def test_a_batch_that_is_there_when_the_one_before_is_done_saves_the_way(
    shape: CostShape, widths: tuple[int, ...], p50: float, p99: float
) -> None:
    rate = 0.7 * 32 / shape.seconds(32, widths[0])
    late, early = (
        run(shape, widths, rate, seconds=10, noise=0.1, way=6e-4, notice=notice, engines=1) for notice in (0.0, 1e-3)
    )
    assert early.answered == late.answered == 1.0
    assert early.percentile(50) < p50 * late.percentile(50)
    assert early.percentile(99) < p99 * late.percentile(99)
    assert early.share("degraded") <= late.share("degraded")


@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("notice", [5e-4, 1e-3, 4e-3])
def test_early_words_of_engines_make_nobody_late(engines: int, notice: float) -> None:
    for shape, widths, capacity in ((FLAT, (20,), FLAT_CAPACITY), (WIDE, WIDTHS, FLOOR_CAPACITY)):
        seen = run(
            shape, widths, 1.5 * engines * capacity, seconds=10, engines=engines, noise=0.1, way=6e-4, notice=notice
        )
        assert seen.percentile(99) <= 0.05
        assert seen.too_late <= 0.01 * seen.sent
        assert seen.share("late") < 0.01


@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("notice", [1e-3, 4e-3])
def test_nobody_with_little_time_is_dropped_for_a_batch_that_is_sent_ahead(engines: int, notice: float) -> None:
    for shape, budget, rate in ((FLAT, 0.03, 430), (CostShape(6e-4, 3e-4, 0.0), 0.01, 3333)):
        without, seen = (
            run(
                shape, (20,), rate * engines, seconds=3, budget=budget, engines=engines, noise=0.1, way=6e-4, notice=one
            )
            for one in (0.0, notice)
        )
        assert seen.share("late") < 0.02
        assert seen.answered > without.answered - 0.02


@pytest.mark.parametrize(("load", "degraded"), [(0.7, 0.0), (1.0, 0.3), (1.1, 0.5)])
def test_where_batches_are_short_the_beam_narrows_before_a_line_forms(load: float, degraded: float) -> None:
    """Half of the deadline would hold 225 requests; a beam that waited for so many to narrow has a P99 of 20 ms."""
    shape = CostShape(5e-4, 5e-5, 2.5e-6)  # .1 ms a request 20 wide, .075 ms 10 wide
    seen = run(shape, (20, 10), load * 32 / shape.seconds(32, 20), seconds=10, noise=0.1)
    assert seen.percentile(99) <= 0.012
    assert seen.answered == 1.0
    assert seen.share("degraded") <= degraded
    assert seen.longest_line <= 100


def test_an_idle_engine_waits_for_nobody() -> None:
    seen = run(FLAT, (20,), 5.0, seconds=100)
    assert seen.percentile(50) == pytest.approx(0.006)
    assert seen.answered == 1.0
    assert seen.degraded == 0


def test_an_idle_engine_waits_for_company_only_where_company_is_likely() -> None:
    """A request costs 3 ms alone and 1 ms in company of three: to wait for 4 ms saves a third of the work."""
    shape = CostShape(2.7e-3, 3e-4, 0.0)
    alone, together = (run(shape, (20,), 360.0, seconds=20, gather=gather) for gather in (0.0, 0.004))
    assert together.busy_seconds < 0.7 * alone.busy_seconds
    assert together.answered == 1.0
    assert together.percentile(99) < 0.015
    seldom = run(shape, (20,), 20.0, seconds=50, gather=0.004)
    assert seldom.percentile(50) == pytest.approx(0.003)
    cheap = run(CostShape(3e-4, 3e-4, 0.0), (20,), 360.0, seconds=20, gather=0.004)
    assert cheap.percentile(50) < 0.0012, "0.3 ms are not worth 4 ms of waiting"
