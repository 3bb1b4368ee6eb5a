"""The days of the market: users visit, are shown slates, and react; vectorised over users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.core.progress import track
from asterism.core.records import ACTION_CODES, Action
from asterism.data.market.config import DAY_SECONDS, MarketConfig
from asterism.data.market.desire import POPULAR, UNIFORM, Offer, Places, State, Wish
from asterism.data.market.latent import ItemTruth, UserTruth
from asterism.data.market.response import attraction, react

_BATCH_CELLS = 4_000_000  # users times items held at once
_MAX_SLATES = 14
_LATEST_START_SECONDS = 22 * 3600  # a visit ends on the day it began
SCENES = ("home", "search")


@dataclass(frozen=True, slots=True)
class Log:
    """All rows of the log, sorted by user and time; an impression stands before what it led to."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    timestamp: NDArray[np.int64]  # Unix seconds
    action: NDArray[np.int8]  # codes of core.records.ACTIONS
    value: NDArray[np.float32]  # dwell seconds, rating, position of an impression; NaN where there is none
    scene: NDArray[np.int8]  # position in SCENES

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.integer]) -> Log:
        """The given rows in the given order."""
        return Log(*(getattr(self, name)[rows] for name in Log.__slots__))

    @classmethod
    def concatenate(cls, parts: list[Log]) -> Log:
        """One log of many, sorted."""
        whole = cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))
        return whole.take(np.lexsort((whole.action != _IMPRESSION, whole.timestamp, whole.user)))


_IMPRESSION = ACTION_CODES[Action.IMPRESSION]


def simulate(config: MarketConfig, items: ItemTruth, users: UserTruth) -> Log:
    """Let all users live through all days; the same configuration gives the same log."""
    places = Places(config, items)
    popular = places.popular_by_day()
    size = max(1, _BATCH_CELLS // config.items)
    starts = range(0, config.users, size)
    parts: list[Log] = []
    for start in track(starts, "simulating visits", total=len(starts)):
        rows = np.arange(start, min(start + size, config.users))
        rng = np.random.default_rng([config.seed, 3, start])
        parts.extend(_live(config, places, popular, users, rows, rng))
    return Log.concatenate(parts)


def relevance(config: MarketConfig, scene: NDArray[np.integer]) -> NDArray[np.float64]:
    """How much of a slate follows the user's wishes, by scene; same shape."""
    return np.where(scene == SCENES.index("search"), config.search_relevance, config.home_relevance)


def exposure(blend: NDArray[np.float64], relevant: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, 6) the blend from which the logging policy fills a slate: wishes, thinned with background."""
    mixed = blend * relevant[:, None]
    mixed[:, [POPULAR, UNIFORM]] += (1 - relevant)[:, None] / 2
    return mixed


def _live(
    config: MarketConfig,
    places: Places,
    popular: NDArray[np.float64],
    users: UserTruth,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[Log]:
    """One batch of users; those with most visits stand first, so that a visit's users are a prefix."""
    days = _visit_days(config, users.joined_day[rows], rng)
    counts = (days >= 0).sum(axis=1)
    order = np.argsort(-counts, kind="stable")
    rows, days, counts = rows[order], days[order], counts[order]
    state = State.fresh(len(rows), config.items)
    parts: list[Log] = []
    for visit in range(days.shape[1]):
        present = int((counts > visit).sum())
        if not present:
            break
        head = state.head(present)
        head.theme[:] = -1
        offer = Offer(places, popular, users, rows[:present], days[:present, visit], head.taken)
        parts.extend(_visit(config, offer, head, rows[:present], users, rng))
    return parts


def _visit_days(config: MarketConfig, joined: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """(R, most visits) distinct days in ascending order, -1 behind the last."""
    mean = np.log(config.visits_per_user) - 0.18
    wanted = np.maximum(2, np.rint(np.exp(rng.normal(mean, 0.6, size=len(joined))))).astype(np.int64)
    counts = np.minimum(wanted, config.days - joined)
    draw = rng.random((len(joined), config.days))
    draw[np.arange(config.days) < joined[:, None]] = 2.0
    chosen = np.argsort(draw, axis=1)[:, : int(counts.max())]
    chosen = np.where(np.arange(chosen.shape[1]) < counts[:, None], chosen, config.days)
    days = np.sort(chosen, axis=1)
    return np.where(days < config.days, days, -1)


def _visit(
    config: MarketConfig,
    offer: Offer,
    state: State,
    rows: NDArray[np.int64],
    users: UserTruth,
    rng: np.random.Generator,
) -> list[Log]:
    count = len(rows)
    scene = (rng.random(count) < config.search_share).astype(np.int8)
    slates_left = np.minimum(rng.geometric(1 / config.slates_per_visit, size=count), _MAX_SLATES)
    clock = config.start_seconds + offer.days * DAY_SECONDS + _start_seconds(count, rng)
    parts: list[Log] = []
    for slate_number in range(int(slates_left.max())):
        now = np.flatnonzero(slates_left > slate_number)
        wish = Wish(offer, state, now)
        slates = fill_slates(config, wish, scene[now], rng)
        attracted = attraction(config, wish.probability(wish.blend, slates))
        reaction = react(config, offer.places.truth, slates, attracted, users.price_sensitivity[rows[now]], rng)
        moments = clock[now, None] + np.cumsum(rng.integers(3, 9, size=slates.shape), axis=1)
        parts.append(_impressions(rows[now], slates, clock[now], scene[now]))
        acted = np.nonzero(reaction.action)
        parts.append(
            Log(
                user=rows[now][acted[0]].astype(np.int32),
                item=slates[acted].astype(np.int32),
                timestamp=moments[acted],
                action=reaction.action[acted],
                value=reaction.value[acted],
                scene=scene[now][acted[0]],
            )
        )
        for column in range(slates.shape[1]):
            hit = np.flatnonzero(reaction.clicked[:, column])
            state.engage(offer.places.truth, now[hit], slates[hit, column])
        clock[now] = moments[:, -1] + rng.integers(20, 90, size=len(now))
    return parts


def fill_slates(
    config: MarketConfig, wish: Wish, scene: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.int64]:
    """(R, slate_size) different items in the order in which the logging policy drew them; -1 where it ran dry."""
    blend = exposure(wish.blend, relevance(config, scene))
    drawn = wish.draw(blend, 2 * config.slate_size + 4, rng)
    repeated = np.triu(drawn[:, :, None] == drawn[:, None, :], k=1).any(axis=1)
    spoiled = repeated | (drawn < 0)
    best = np.argsort(spoiled, axis=1, kind="stable")[:, : config.slate_size]
    kept = np.take_along_axis(drawn, best, axis=1)
    return np.where(np.take_along_axis(spoiled, best, axis=1), -1, kept)


def _impressions(
    rows: NDArray[np.int64], slates: NDArray[np.int64], clock: NDArray[np.int64], scene: NDArray[np.int8]
) -> Log:
    shown = np.nonzero(slates >= 0)
    return Log(
        user=rows[shown[0]].astype(np.int32),
        item=slates[shown].astype(np.int32),
        timestamp=clock[shown[0]],
        action=np.full(len(shown[0]), _IMPRESSION, dtype=np.int8),
        value=(shown[1] + 1).astype(np.float32),
        scene=scene[shown[0]],
    )


def _start_seconds(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Second of the day at which visits begin: a small peak at noon, a large one in the evening."""
    evening = rng.random(count) < 0.6
    hour = np.where(evening, rng.normal(19.5, 1.6, count), rng.normal(12.0, 2.2, count))
    return np.asarray(np.clip(hour * 3600, 6 * 3600, _LATEST_START_SECONDS), dtype=np.int64)
