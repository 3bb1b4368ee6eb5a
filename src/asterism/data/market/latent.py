"""The hidden truth of items and users: where they stand, what follows what, and how tastes move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.core.records import Kind
from asterism.data.market.category import Subcategory, subcategories
from asterism.data.market.config import DAY_SECONDS, MarketConfig

Matrix = NDArray[np.float64]

KINDS: tuple[Kind, ...] = tuple(Kind)
NEVER = np.iinfo(np.int64).max // 2
FOLLOWERS = 4
_FOLLOWER_SHARES = (0.48, 0.27, 0.17, 0.08)  # of the directed follow-ups of an item, before taste weighs in
_LATER_PART_WEIGHT = 0.2  # a part of a series is seldom wanted before its predecessor
_LAST_ARRIVAL_SHARE = 0.93  # of the period: late enough to be new, early enough to be met
_BACK_CATALOGUE_DAYS = 200


@dataclass(frozen=True, slots=True)
class ItemTruth:
    """What the market knows of each item; arrays over dense item indices."""

    subcategory: NDArray[np.int32]  # (N,)
    kind: NDArray[np.int32]  # (N,) position in core.records.Kind
    style: NDArray[np.float32]  # (N, style_width) unit vectors
    popularity: NDArray[np.float32]  # (N,) Zipf weights with mean one
    quality: NDArray[np.float32]  # (N,) standard normal: what an item keeps of what it promised
    price: NDArray[np.float32]  # (N,) NaN where free
    series: NDArray[np.int32]  # (N,) series number, -1 outside
    part: NDArray[np.int32]  # (N,) from 1; 0 outside a series
    sequel: NDArray[np.int32]  # (N,) the next part, -1 where there is none
    followers: NDArray[np.int32]  # (N, FOLLOWERS) items that go with this one afterwards, -1 where there is none
    created_at: NDArray[np.int64]  # (N,) Unix seconds
    retired_at: NDArray[np.int64]  # (N,) Unix seconds, NEVER where still there

    def __len__(self) -> int:
        return len(self.subcategory)


@dataclass(frozen=True, slots=True)
class UserTruth:
    """What the market knows of each user; arrays over dense user indices."""

    taste_first: NDArray[np.float32]  # (U, style_width) unit vectors: the user on the first day
    taste_second: NDArray[np.float32]  # (U, style_width): the self towards which the user drifts
    mixture_first: NDArray[np.float32]  # (U, subcategories) rows sum to one
    mixture_second: NDArray[np.float32]
    novelty_seeking: NDArray[np.float32]  # (U,) factor on the extra weight of new arrivals
    price_sensitivity: NDArray[np.float32]  # (U,)
    device: NDArray[np.int32]  # (U,) position in DEVICES
    city: NDArray[np.int32]  # (U,) position in CITIES
    joined_day: NDArray[np.int32]  # (U,)

    def __len__(self) -> int:
        return len(self.device)


DEVICES = ("phone", "desktop", "tablet")
CITIES = ("Lisbon", "Hamburg", "Osaka", "Toronto", "Lagos", "Recife", "Busan", "Leeds")


def draw_items(config: MarketConfig, rng: np.random.Generator) -> ItemTruth:
    """Draw the catalogue's latent side; dense indices carry no information about categories."""
    subs = subcategories()
    subcategory = _draw_subcategories(config.items, len(subs), rng)
    style: Matrix = _unit(rng.normal(size=(config.items, config.style_width)))
    series, part, sequel = _draw_series(subcategory, config.series_share, rng)
    style = _share_style_in_series(style, series)
    rank = rng.permutation(config.items) + 1
    popularity = rank**-config.zipf
    popularity = popularity / popularity.mean() * np.where(part > 1, _LATER_PART_WEIGHT, 1.0)
    created_at = _draw_arrivals(config, series, part, rng)
    return ItemTruth(
        subcategory=subcategory,
        kind=np.array([KINDS.index(sub.parent.kind) for sub in subs], dtype=np.int32)[subcategory],
        style=style.astype(np.float32),
        popularity=popularity.astype(np.float32),
        quality=rng.normal(size=config.items).astype(np.float32),
        price=_draw_prices(subs, subcategory, rng),
        series=series,
        part=part,
        sequel=sequel,
        followers=_draw_followers(subs, subcategory, style, rng),
        created_at=created_at,
        retired_at=_draw_retirements(config, created_at, rng),
    )


def draw_users(config: MarketConfig, rng: np.random.Generator) -> UserTruth:
    """Draw the users: two selves each, between which the days move them."""
    count, width = config.users, config.style_width
    fame = rng.permutation(np.linspace(0.6, 1.4, len(subcategories())))
    first = rng.normal(size=(count, width))
    mixtures = [rng.dirichlet(0.09 * fame, size=count) for _ in range(2)]
    late = rng.random(count) < 0.35
    return UserTruth(
        taste_first=_unit(first).astype(np.float32),
        taste_second=_unit(0.3 * first + rng.normal(size=(count, width))).astype(np.float32),
        mixture_first=mixtures[0].astype(np.float32),
        mixture_second=(0.3 * mixtures[0] + 0.7 * mixtures[1]).astype(np.float32),
        novelty_seeking=rng.gamma(2.0, 0.5, size=count).astype(np.float32),
        price_sensitivity=rng.gamma(2.0, 0.25, size=count).astype(np.float32),
        device=rng.choice(len(DEVICES), size=count, p=(0.62, 0.28, 0.10)).astype(np.int32),
        city=rng.integers(len(CITIES), size=count).astype(np.int32),
        joined_day=np.where(late, rng.integers(0, max(1, config.days // 2), size=count), 0).astype(np.int32),
    )


def drift_position(config: MarketConfig, days: NDArray[np.integer]) -> NDArray[np.float32]:
    """How far from the first self (0) towards the second (1) users stand on the given days."""
    return (config.drift * days / (config.days - 1)).astype(np.float32)


def taste_at(config: MarketConfig, users: UserTruth, rows: NDArray[np.integer], days: NDArray[np.integer]) -> Taste:
    """The tastes of users `rows` on their `days`: the mixture of categories, and the style they like."""
    position = drift_position(config, days)[:, None]
    vector = (1 - position) * users.taste_first[rows] + position * users.taste_second[rows]
    mixture = (1 - position) * users.mixture_first[rows] + position * users.mixture_second[rows]
    return Taste(_unit(vector).astype(np.float32), mixture)


@dataclass(frozen=True, slots=True)
class Taste:
    """What users like on a day."""

    style: NDArray[np.float32]  # (R, style_width) unit vectors
    mixture: NDArray[np.float32]  # (R, subcategories) rows sum to one


def follower_shares() -> NDArray[np.float32]:
    """(FOLLOWERS,) the weight of an item's follow-ups before taste weighs in."""
    return np.array(_FOLLOWER_SHARES, dtype=np.float32)


def _draw_subcategories(items: int, subs: int, rng: np.random.Generator) -> NDArray[np.int32]:
    share = rng.dirichlet(np.full(subs, 12.0))
    every = np.arange(min(items, 2 * subs)) % subs  # none stays empty
    rest = rng.choice(subs, size=items - len(every), p=share)
    return rng.permutation(np.concatenate([every, rest])).astype(np.int32)


def _draw_series(
    subcategory: NDArray[np.int32], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    series, part, sequel = (np.full(len(subcategory), fill, dtype=np.int32) for fill in (-1, 0, -1))
    number = 0
    for sub in range(int(subcategory.max()) + 1):
        members = rng.permutation(np.flatnonzero(subcategory == sub))
        left = members[: round(share * len(members))]
        while len(left) >= 2:
            length = min(int(rng.integers(2, 6)), len(left))
            chain, left = left[:length], left[length:]
            series[chain], part[chain] = number, np.arange(1, length + 1)
            sequel[chain[:-1]] = chain[1:]
            number += 1
    return series, part, sequel


def _share_style_in_series(style: Matrix, series: NDArray[np.int32]) -> Matrix:
    members = np.flatnonzero(series >= 0)
    _, first, of_member = np.unique(series[members], return_index=True, return_inverse=True)
    style = style.copy()
    style[members] = _unit(style[members[first]][of_member] + 0.25 * style[members])
    return style


def _draw_arrivals(
    config: MarketConfig, series: NDArray[np.int32], part: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.int64]:
    arriving = rng.random(config.items) < config.arriving_share
    old = -rng.integers(1, _BACK_CATALOGUE_DAYS * DAY_SECONDS, size=config.items)
    new = rng.integers(0, int(_LAST_ARRIVAL_SHARE * config.days * DAY_SECONDS), size=config.items)
    created = config.start_seconds + np.where(arriving, new, old)
    by_time = np.lexsort((created, series))
    by_part = np.lexsort((part, series))
    ordered = created.copy()
    ordered[by_part] = created[by_time]  # within a series the parts appear in order
    return np.where(series >= 0, ordered, created).astype(np.int64)


def _draw_retirements(
    config: MarketConfig, created_at: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    retired = rng.random(config.items) < config.retired_share
    since = np.maximum(created_at, config.start_seconds)
    moment = since + (rng.random(config.items) * (config.end_seconds - since)).astype(np.int64)
    return np.where(retired, moment, NEVER)


def _draw_prices(
    subs: tuple[Subcategory, ...], subcategory: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.float32]:
    median = np.array([np.nan if sub.median_price is None else sub.median_price for sub in subs])[subcategory]
    spread = np.where(median < 15, 0.15, 0.35)
    price: Matrix = median * np.exp(spread * rng.normal(size=len(subcategory)))
    return (np.floor(price) + 0.99).astype(np.float32)


def _draw_followers(
    subs: tuple[Subcategory, ...], subcategory: NDArray[np.int32], style: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int32]:
    """Items of complementary categories whose style is nearest to this item's, turned by one fixed rotation.

    The rotation makes the relation directed: what follows an item is not what it follows.
    """
    width = style.shape[1]
    turn, _ = np.linalg.qr(rng.normal(size=(width, width)))
    wanted = style @ turn
    members = [np.flatnonzero(subcategory == sub) for sub in range(len(subs))]
    followers = np.full((len(subcategory), FOLLOWERS), -1, dtype=np.int32)
    for sub, items in enumerate(members):
        near, far = _complements(subs, sub)
        followers[items, :2] = _nearest(wanted[items], style, members[near], 2)
        followers[items, 2:] = _nearest(wanted[items], style, members[far], 2)
    order = np.array([0, 2, 1, 3])
    return followers[:, order]


def _complements(subs: tuple[Subcategory, ...], sub: int) -> tuple[int, int]:
    """The next sibling in the circle of one parent's subcategories, and a subcategory of the partner."""
    siblings = [place for place, one in enumerate(subs) if one.parent is subs[sub].parent]
    partners = [place for place, one in enumerate(subs) if one.parent.name == subs[sub].parent.partner]
    rank = siblings.index(sub)
    return siblings[(rank + 1) % len(siblings)], partners[rank % len(partners)]


def _nearest(
    wanted: NDArray[np.float64], style: NDArray[np.float64], members: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """(items, count) of the members, nearest first; every subcategory holds at least two."""
    similarity = wanted @ style[members].T
    return members[np.argsort(-similarity, axis=1, kind="stable")[:, :count]]


def _unit(vectors: NDArray[Any]) -> Matrix:
    unit: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
