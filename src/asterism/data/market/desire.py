"""What a user wants next: a mixture of six sources, exact for any items and quick to draw from.

    P(j | state) = f F(j) + r [j = resume] + m [c(j) = theme] S(j) + t θ(c(j)) S(j) + p P(j) + u / N

S(j) is j's share of its subcategory's weight for this user on this day, F the share among the last
item's follow-ups, P the share of overall popularity. Items already taken, not yet there or withdrawn
have probability 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.data.market.config import DAY_SECONDS, Blend, MarketConfig
from asterism.data.market.latent import FOLLOWERS, ItemTruth, Taste, UserTruth, follower_shares, taste_at

FOLLOW, RESUME, THEME, TASTE, POPULAR, UNIFORM = range(6)


@dataclass(slots=True)
class State:
    """What of their past moves R users now; changes with every engagement."""

    last: NDArray[np.int64]  # (R,) the newest item, -1 for none
    theme: NDArray[np.int64]  # (R,) subcategory of today's first item, -1 before it
    resume: NDArray[np.int64]  # (R,) next part of the newest series touched, -1 for none
    resume_age: NDArray[np.int64]  # (R,) engagements since then
    taken: NDArray[np.bool_]  # (R, N) items ever engaged with

    @classmethod
    def fresh(cls, users: int, items: int) -> State:
        """Users without a past."""
        none = np.full(users, -1, dtype=np.int64)
        return cls(none, none.copy(), none.copy(), np.zeros(users, np.int64), np.zeros((users, items), bool))

    @classmethod
    def recall(cls, truth: ItemTruth, items: NDArray[np.integer], today: NDArray[np.bool_]) -> State:
        """One user's state after engaging with `items`, oldest first; `today` marks those of the present visit."""
        state = cls.fresh(1, len(truth))
        if not len(items):
            return state
        state.last[0] = items[-1]
        state.taken[0, items] = True
        if today.any():
            state.theme[0] = truth.subcategory[items[today][0]]
        continued = np.flatnonzero(truth.sequel[items] >= 0)
        if len(continued):
            state.resume[0] = truth.sequel[items[continued[-1]]]
            state.resume_age[0] = len(items) - 1 - continued[-1]
        return state

    def head(self, users: int) -> State:
        """The first users' state as views: what changes in it changes here."""
        return State(*(getattr(self, name)[:users] for name in State.__slots__))

    def engage(self, truth: ItemTruth, rows: NDArray[np.integer], items: NDArray[np.integer]) -> None:
        """Users `rows`, each at most once, engage with `items`."""
        self.last[rows] = items
        opening = self.theme[rows] < 0
        self.theme[rows[opening]] = truth.subcategory[items[opening]]
        sequel = truth.sequel[items]
        self.resume[rows] = np.where(sequel >= 0, sequel, self.resume[rows])
        self.resume_age[rows] = np.where(sequel >= 0, 0, self.resume_age[rows] + 1)
        self.taken[rows, items] = True


class Places:
    """The catalogue in shelf order: items of one subcategory stand together."""

    def __init__(self, config: MarketConfig, truth: ItemTruth) -> None:
        self.config = config
        self.truth = truth
        self.order = np.argsort(truth.subcategory, kind="stable")  # place -> item
        self.place_of = np.argsort(self.order, kind="stable")  # item -> place
        subs = int(truth.subcategory.max()) + 1
        self.bounds = np.searchsorted(truth.subcategory[self.order], np.arange(subs + 1))
        self.first_day = -((config.start_seconds - truth.created_at) // DAY_SECONDS)  # seen from the next midnight on
        self.last_day = (truth.retired_at - config.start_seconds) // DAY_SECONDS  # gone on the day of withdrawal

    def visible(self, days: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(R, N) in item order: which items are on offer on each day."""
        return (self.first_day <= days[:, None]) & (self.last_day > days[:, None])

    def popular_by_day(self) -> NDArray[np.float64]:
        """(days, N) cumulative popularity of what is on offer, in item order."""
        return np.cumsum(self.visible(np.arange(self.config.days)) * self.truth.popularity.astype(np.float64), axis=1)


class Offer:
    """What lies before R users on their days, weighted by their tastes; fixed for a visit."""

    def __init__(
        self,
        places: Places,
        popular: NDArray[np.float64],
        users: UserTruth,
        rows: NDArray[np.integer],
        days: NDArray[np.integer],
        taken: NDArray[np.bool_],
    ) -> None:
        self.places = places
        self.taste: Taste = taste_at(places.config, users, rows, days)
        self.visible = places.visible(days)
        self.popular = popular  # (days, N)
        self.days = days
        weights = self._weights(users.novelty_seeking[rows]) * (self.visible & ~taken)
        self.weights = weights[:, places.order]  # (R, N) in shelf order
        cumulative = np.cumsum(self.weights, axis=None, dtype=np.float64)
        self.cumulative = np.concatenate([[0.0], cumulative])  # over all rows, one after the other
        edges = np.arange(len(rows))[:, None] * len(places.order) + places.bounds
        self.edges = self.cumulative[edges]  # (R, subcategories + 1)
        self.masses = np.maximum(np.diff(self.edges, axis=1), 0.0)

    def _weights(self, novelty_seeking: NDArray[np.float32]) -> NDArray[np.float32]:
        config, truth = self.places.config, self.places.truth
        ages = np.maximum(self.days[:, None] - self.places.first_day, 0).astype(np.float32)
        arrival = np.exp(ages / np.float32(-config.novelty_days))
        arrival *= novelty_seeking[:, None] * np.float32(config.novelty)
        fit = self.taste.style @ truth.style.T
        fit *= np.float32(config.taste_strength * np.sqrt(config.style_width) / 2)
        np.exp(fit, out=fit)
        fit *= truth.popularity
        fit *= 1 + arrival
        return fit

    def share(self, rows: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float64]:
        """(R, K) each item's share of its subcategory's weight; 0 where that is empty."""
        mass = self.masses[rows[:, None], self.places.truth.subcategory[items]]
        weight = self.weights[rows[:, None], self.places.place_of[items]]
        return np.asarray(np.divide(weight, mass, out=np.zeros(weight.shape), where=mass > 0))

    def mixture(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """(R, subcategories) the users' mixture over what is not empty; rows sum to one."""
        found = self.taste.mixture[rows] * (self.masses[rows] > 0) + 1e-12
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def popularity(self, rows: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float64]:
        """(R, K) each item's share of the overall popularity of what is on offer."""
        total = self.popular[self.days[rows], -1]
        return np.asarray(self.places.truth.popularity[items] * self.on_offer(rows, items) / total[:, None])

    def on_offer(self, rows: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(R, K) whether the item is there on the user's day."""
        return np.asarray(self.visible[rows[:, None], items])


class Wish:
    """What users `rows` of an offer want in their state; a snapshot, so make a new one after an engagement."""

    def __init__(self, offer: Offer, state: State, rows: NDArray[np.integer]) -> None:
        self.offer = offer
        self.rows = rows
        self.taken = state.taken
        self.theme = state.theme[rows]
        self.resume = self._resume(state)
        self.followers, self.follower_share = self._followers(state.last[rows])
        self.mixture = offer.mixture(rows)
        self.blend = self._blend()

    def probability(self, blend: NDArray[np.float64], items: NDArray[np.integer]) -> NDArray[np.float64]:
        """(R, K) probability of items (R, K) under shares `blend` (R, 6); rows over all items sum to at most one."""
        truth, safe = self.offer.places.truth, np.maximum(items, 0)
        subs = truth.subcategory[safe]
        share = self.offer.share(self.rows, safe)
        total = blend[:, THEME, None] * (subs == self.theme[:, None]) * share
        total += blend[:, TASTE, None] * np.take_along_axis(self.mixture, subs, axis=1) * share
        total += blend[:, POPULAR, None] * self.offer.popularity(self.rows, safe)
        total += blend[:, UNIFORM, None] / len(truth)
        total += blend[:, RESUME, None] * (items == self.resume[:, None])
        for column in range(FOLLOWERS):
            total += (
                blend[:, FOLLOW, None]
                * self.follower_share[:, column, None]
                * (items == self.followers[:, column, None])
            )
        return np.asarray(total * self._free(safe) * (items >= 0))

    def draw(self, blend: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(R, count) independent draws from `probability`; -1 where a draw hit nothing that is free."""
        size = (len(self.rows), count)
        source = _choose(np.broadcast_to(blend[:, None, :], (*size, 6)), rng)
        theme = np.maximum(self.theme, 0)[:, None]
        subs = np.where(source == THEME, theme, _choose_many(self.mixture, count, rng))
        items = self._draw_in(subs, rng)
        pick = _choose_many(self.follower_share, count, rng)
        items = np.where(source == FOLLOW, np.take_along_axis(self.followers, pick, axis=1), items)
        items = np.where(source == RESUME, self.resume[:, None], items)
        items = np.where(source == POPULAR, self._draw_popular(count, rng), items)
        items = np.where(source == UNIFORM, rng.integers(len(self.offer.places.order), size=size), items)
        return np.where((items >= 0) & self._free(np.maximum(items, 0)), items, -1)

    def _free(self, items: NDArray[np.integer]) -> NDArray[np.bool_]:
        return np.asarray(self.offer.on_offer(self.rows, items) & ~self.taken[self.rows[:, None], items])

    def _resume(self, state: State) -> NDArray[np.int64]:
        wanted = state.resume[self.rows]
        alive = (wanted >= 0) & (state.resume_age[self.rows] <= self.offer.places.config.resume_events)
        return np.where(alive & self._free(np.maximum(wanted, 0)[:, None])[:, 0], wanted, -1)

    def _followers(self, last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The last item's follow-ups (R, FOLLOWERS), and their shares: taste weighs in at half its strength."""
        found = np.where(last[:, None] >= 0, self.offer.places.truth.followers[last], -1).astype(np.int64)
        safe = np.maximum(found, 0)
        weight = np.sqrt(self.offer.weights[self.rows[:, None], self.offer.places.place_of[safe]])
        share = follower_shares() * weight * (found >= 0) * self._free(safe)
        total = share.sum(axis=1, keepdims=True)
        return found, np.divide(share, total, out=np.zeros(share.shape), where=total > 0)

    def _blend(self) -> NDArray[np.float64]:
        """(R, 6) the shares of the sources; what a source without items leaves goes to taste."""
        config = self.offer.places.config
        opening = (self.theme < 0)[:, None]
        blend = np.where(opening, _shares(config.opening), _shares(config.browsing))
        blend[:, FOLLOW] *= self.follower_share.sum(axis=1) > 0
        blend[:, RESUME] *= self.resume >= 0
        mass = self.offer.masses[self.rows, np.maximum(self.theme, 0)]
        blend[:, THEME] *= (self.theme >= 0) & (mass > 0)
        blend[:, TASTE] += 1.0 - blend.sum(axis=1)
        return blend

    def _draw_in(self, subs: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
        edges = self.offer.edges
        low, high = edges[self.rows[:, None], subs], edges[self.rows[:, None], subs + 1]
        target = low + rng.random(subs.shape) * (high - low)
        width = len(self.offer.places.order)
        place = np.searchsorted(self.offer.cumulative, target, side="right") - 1 - self.rows[:, None] * width
        inside = (place >= self.offer.places.bounds[subs]) & (place < self.offer.places.bounds[subs + 1])
        return np.where(inside & (high > low), self.offer.places.order[np.clip(place, 0, width - 1)], -1)

    def _draw_popular(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        days = self.offer.days[self.rows]
        popular = self.offer.popular
        found = np.empty((len(days), count), dtype=np.int64)
        uniforms = rng.random(found.shape)
        for day in np.unique(days):
            of_day = days == day
            found[of_day] = np.searchsorted(popular[day], uniforms[of_day] * popular[day, -1], side="right")
        return np.asarray(np.minimum(found, popular.shape[1] - 1))


def _shares(blend: Blend) -> NDArray[np.float64]:
    return np.array([blend.follow, blend.resume, blend.theme, blend.taste, blend.popular, blend.uniform])


def _choose(shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One choice per row of shares (..., C)."""
    cumulative = np.cumsum(shares, axis=-1)
    target = rng.random((*shares.shape[:-1], 1)) * cumulative[..., -1:]
    return np.asarray(np.minimum((cumulative <= target).sum(axis=-1), shares.shape[-1] - 1))


def _choose_many(shares: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(R, count) independent choices from shares (R, C)."""
    return _choose(np.broadcast_to(shares[:, None, :], (len(shares), count, shares.shape[1])), rng)
