"""The dials of the market: four in front, the rest with defaults that were tuned for the demo."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from asterism.core.errors import ConfigError

DAY_SECONDS: Final = 86_400
START_SECONDS: Final = 1_767_571_200  # 2026-01-05T00:00:00Z, a Monday


@dataclass(frozen=True, slots=True)
class Blend:
    """Where a wish comes from: shares of its six sources, which sum to one."""

    follow: float  # what goes with the last item
    resume: float  # the next part of a series under way
    theme: float  # the category in which today's visit began
    taste: float  # the user's own mixture of categories
    popular: float  # what everybody wants
    uniform: float  # anything at all

    def __post_init__(self) -> None:
        shares = [getattr(self, one.name) for one in fields(self)]
        if min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-9:
            raise ConfigError(f"the shares of a Blend must be >= 0 and sum to 1, but they are {shares}")


@dataclass(frozen=True, slots=True)
class MarketConfig:
    """How large the market is, and how its people behave.

    Raises `ConfigError` naming the dial that is out of its range.
    """

    users: int = 3_000
    items: int = 1_200
    days: int = 60
    seed: int = 0

    start_seconds: int = START_SECONDS  # midnight UTC of the first day
    visits_per_user: float = 7.0  # at most one visit a day
    slates_per_visit: float = 4.6
    slate_size: int = 6
    style_width: int = 8  # dimensions of item styles and user tastes
    taste_strength: float = 2.2  # how much a fitting style raises an item's weight in its category
    drift: float = 0.7  # how far, from 0 to 1, tastes move towards the user's second self until the last day
    zipf: float = 0.75  # the item of popularity rank r has weight r^-zipf
    series_share: float = 0.35  # of items that belong to a series
    arriving_share: float = 0.35  # of items that arrive after the first day
    retired_share: float = 0.03  # of items that are withdrawn before the last day
    novelty: float = 2.0  # a new arrival's extra weight, fading with `novelty_days`
    novelty_days: float = 5.0
    opening: Blend = Blend(follow=0.08, resume=0.40, theme=0.0, taste=0.42, popular=0.07, uniform=0.03)
    browsing: Blend = Blend(follow=0.36, resume=0.12, theme=0.30, taste=0.13, popular=0.06, uniform=0.03)
    resume_events: int = 8  # a series is dropped when so many other items came after it
    position_bias: float = 0.7  # position p is looked at with probability p^-position_bias
    click_offset: float = -2.2  # attraction = sigmoid(offset + slope * log(lift + 0.05))
    click_slope: float = 0.55
    home_relevance: float = 0.55  # share of a home slate that follows the user's wishes; the rest is background
    search_relevance: float = 0.85
    search_share: float = 0.25  # of visits that are searches

    def __post_init__(self) -> None:
        _check("users", self.users, 1, 10_000_000)
        _check("items", self.items, 100, 1_000_000)
        _check("days", self.days, 7, 3_650)
        _check("seed", self.seed, 0, 2**63 - 1)
        _check("slate_size", self.slate_size, 1, 50)
        _check("style_width", self.style_width, 2, 256)
        _check("visits_per_user", self.visits_per_user, 0.1, 1_000.0)
        _check("slates_per_visit", self.slates_per_visit, 1.0, 1_000.0)
        _check("novelty_days", self.novelty_days, 0.01, 10_000.0)
        if self.start_seconds % DAY_SECONDS:
            raise ConfigError(f"`start_seconds` must be a midnight in UTC, but it is {self.start_seconds}")
        for name in ("drift", "series_share", "arriving_share", "retired_share", "home_relevance", "search_relevance"):
            _check(name, getattr(self, name), 0.0, 1.0)
        for name in ("zipf", "novelty", "position_bias", "taste_strength", "search_share"):
            _check(name, getattr(self, name), 0.0, 10.0)

    @property
    def end_seconds(self) -> int:
        """The midnight after the last day, Unix seconds."""
        return self.start_seconds + self.days * DAY_SECONDS

    def day_of(self, seconds: int) -> int:
        """The day a moment falls in, from 0; moments outside the period count as its first or last day."""
        return min(max((seconds - self.start_seconds) // DAY_SECONDS, 0), self.days - 1)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"`{name}` of the market must lie in {low} to {high}, but it is {value}")
