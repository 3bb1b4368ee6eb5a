"""Dials out of range are named."""

from __future__ import annotations

import pytest

from asterism.core.errors import ConfigError
from asterism.data.market import Blend, MarketConfig


@pytest.mark.parametrize(
    ("dial", "value"),
    [
        ("users", 0),
        ("items", 99),
        ("days", 6),
        ("seed", -1),
        ("drift", 1.5),
        ("start_seconds", 5),
        ("slates_per_visit", 0.5),
    ],
)
def test_a_wrong_dial_is_named(dial: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{dial}`"):
        MarketConfig(**{dial: value})  # type: ignore[arg-type]


def test_a_blend_sums_to_one() -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        Blend(0.5, 0.5, 0.5, 0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="sum to 1"):
        Blend(1.5, -0.5, 0.0, 0.0, 0.0, 0.0)


def test_days_count_from_the_start_and_stay_within_the_period() -> None:
    config = MarketConfig(days=10)
    assert config.start_seconds == 1_767_571_200
    assert config.day_of(config.start_seconds) == 0
    assert config.day_of(config.start_seconds + 86_400) == 1
    assert config.day_of(config.start_seconds - 5) == 0
    assert config.day_of(config.end_seconds + 10**9) == 9
