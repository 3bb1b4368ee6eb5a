"""The bootstrap against a loop that really resamples, its coverage on a known distribution, and its verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from asterism.evaluation.significance import bootstrap_means, compare_paired, mean_intervals


def test_resampling_by_distinct_rows_agrees_with_resampling_cases() -> None:
    rng = np.random.default_rng(1)
    values = rng.choice([0.0, 0.5, 1.0], size=(80, 1), p=[0.7, 0.2, 0.1])
    fast = bootstrap_means(values, 4000, seed=2)[:, 0]
    slow = np.array([rng.choice(values[:, 0], size=80).mean() for _ in range(4000)])
    assert fast.mean() == pytest.approx(values.mean(), abs=0.003)
    assert fast.std() == pytest.approx(values.std() / np.sqrt(80), rel=0.05)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.01)


def test_columns_are_resampled_together() -> None:
    values = np.random.default_rng(0).random((30, 1))
    means = bootstrap_means(np.hstack([values, 2 * values]), 100, seed=0)
    assert means[:, 1] == pytest.approx(2 * means[:, 0])


def test_the_seed_fixes_the_draws() -> None:
    values = np.random.default_rng(0).random((30, 2))
    assert (bootstrap_means(values, 50, seed=4) == bootstrap_means(values, 50, seed=4)).all()
    assert (bootstrap_means(values, 50, seed=4) != bootstrap_means(values, 50, seed=5)).any()


def test_equal_values_leave_no_doubt() -> None:
    assert mean_intervals(np.full((9, 1), 0.25), 100, seed=0) == [(0.25, 0.25)]


def test_an_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    truth, worlds = 0.3, 400
    rng = np.random.default_rng(11)
    covered = 0
    for world in range(worlds):
        values = (rng.random((200, 1)) < truth).astype(np.float64)
        low, high = mean_intervals(values, 300, seed=world)[0]
        covered += low <= truth <= high
    # 0.95 give or take four standard errors of 0.011
    assert 0.90 <= covered / worlds <= 0.99


def test_no_cases_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="no cases"):
        bootstrap_means(np.empty((0, 1)), 10, seed=0)


def test_a_system_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(0).random(50)
    assert compare_paired(values, values, 200, seed=0) == (0.0, 0.0, 0.0, 1.0)


def test_a_constant_lead_is_certain() -> None:
    values = np.arange(50) / 64
    found = compare_paired(values + 0.5, values, 999, seed=0)
    assert found.difference == found.low == found.high == 0.5
    assert found.p_value == 1 / (999 + 1)


def test_pairing_sees_a_lead_that_two_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    second = rng.random(300)
    first = second + rng.normal(0.01, 0.03, size=300)
    assert compare_paired(first, second, 1000, seed=0).p_value < 0.01
    (first_low, _), (_, second_high) = mean_intervals(np.column_stack([first, second]), 1000, seed=0)
    assert first_low < second_high


def test_under_the_null_hypothesis_p_is_small_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(6)
    small = sum(
        compare_paired(rng.normal(size=100), rng.normal(size=100), 199, seed=world).p_value <= 0.1
        for world in range(200)
    )
    # 0.1 give or take four standard errors of 0.021
    assert 0.015 <= small / 200 <= 0.185


def test_systems_measured_on_different_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="3 cases cannot be paired with 2"):
        compare_paired(np.zeros(3), np.zeros(2), 10, seed=0)
