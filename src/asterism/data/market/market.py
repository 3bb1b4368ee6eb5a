"""The market as experiments ask it: its log, and the truth behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import UnknownIdError
from asterism.core.ids import IdMap
from asterism.core.records import ACTIONS, IMAGE, POSITIVE_ACTIONS, Action
from asterism.data.dataset import Dataset
from asterism.data.market import storage
from asterism.data.market.catalogue import describe_items
from asterism.data.market.config import DAY_SECONDS, MarketConfig
from asterism.data.market.desire import Offer, Places, State, Wish
from asterism.data.market.latent import ItemTruth, UserTruth, draw_items, draw_users
from asterism.data.market.response import (
    OUTCOMES,
    PURCHASE,
    Event,
    attraction,
    examination,
    outcome_shares,
    react,
)
from asterism.data.market.simulation import SCENES, exposure, fill_slates, relevance, simulate
from asterism.data.market.tables import build_dataset, item_names, user_names
from asterism.data.sequences import Sequences

CLICKS: Mapping[Action, float] = {one: 1.0 for one in OUTCOMES}


class History(NamedTuple):
    """What a user engaged with, oldest first."""

    items: NDArray[np.int64]  # dense item indices
    timestamps: NDArray[np.int64]  # Unix seconds


@dataclass(frozen=True, eq=False, repr=False)
class Market:
    """A finished simulation. Users and items are dense indices of `users` and `items`; times are Unix seconds.

    Every query takes an optional `history`; without one it is what the user did in the log before `at`.
    """

    config: MarketConfig
    item_truth: ItemTruth
    user_truth: UserTruth
    tables: Dataset

    def __repr__(self) -> str:
        return f"Market({len(self.users)} users, {len(self.items)} items, {self.config.days} days)"

    @classmethod
    def generate(cls, config: MarketConfig) -> Market:
        """Simulate a market; equal configurations give equal markets."""
        items = draw_items(config, np.random.default_rng([config.seed, 1]))
        users = draw_users(config, np.random.default_rng([config.seed, 2]))
        texts = describe_items(config, items)
        return cls(config, items, users, build_dataset(config, items, users, texts, simulate(config, items, users)))

    @classmethod
    def load(cls, folder: Path) -> Market:
        """Read a market that `save` wrote; raises `DataError` naming the file that is missing or wrong."""
        return cls(*storage.load(folder))

    def save(self, folder: Path) -> None:
        """Write the tables and the truth."""
        storage.save(folder, self.config, self.item_truth, self.user_truth, self.tables)

    def dataset(self) -> Dataset:
        """The contract's tables, with impressions, skips and dislikes."""
        return self.tables

    def cover(self, item: int) -> str:
        """The drawn cover of an item, an SVG document."""
        svg: str = self.tables.items[IMAGE][self._checked(item, len(self.items), "item")].as_py()
        return svg

    @cached_property
    def users(self) -> IdMap:
        """All user ids, in dense order."""
        return IdMap(user_names(len(self.user_truth)))

    @cached_property
    def items(self) -> IdMap:
        """All item ids, in dense order."""
        return IdMap(item_names(len(self.item_truth)))

    @cached_property
    def positives(self) -> Sequences:
        """Row u holds user u's engagements, as the log has them."""
        return storage.positive_sequences(self.tables.interactions, self.users, self.items)

    def history(self, user: int, at: int) -> History:
        """What a user engaged with before a moment."""
        row = self.positives.row(self._checked(user, len(self.users), "user"))
        times = self.positives.timestamps[row]
        before = int(np.searchsorted(times, at, side="left"))
        return History(self.positives.items[row][:before].astype(np.int64), times[:before])

    def click_probability(
        self,
        user: int,
        items: Sequence[int] | NDArray[np.integer],
        at: int,
        *,
        positions: Sequence[int] | NDArray[np.integer] | None = None,
        history: History | None = None,
    ) -> NDArray[np.float64]:
        """(K,) probability of any engagement with each item shown at `positions` (from 1).

        Without positions every item is taken to be looked at.
        """
        probability = attraction(self.config, self._wish_of(user, items, at, history)[1])
        if positions is None:
            return probability
        return probability * np.asarray(positions, dtype=np.float64) ** -self.config.position_bias

    def outcome_probabilities(
        self,
        user: int,
        items: Sequence[int] | NDArray[np.integer],
        at: int,
        *,
        positions: Sequence[int] | NDArray[np.integer] | None = None,
        history: History | None = None,
    ) -> NDArray[np.float64]:
        """(K, len(OUTCOMES)) probability that each deepest action of OUTCOMES happens to each item."""
        attracted = self.click_probability(user, items, at, history=history)
        clicked = self.click_probability(user, items, at, positions=positions, history=history)
        sensitivity = np.full(len(attracted), self.user_truth.price_sensitivity[user])
        shares = outcome_shares(self.item_truth, np.asarray(items, dtype=np.int64), attracted, sensitivity)
        return clicked[:, None] * shares

    def purchase_probability(
        self,
        user: int,
        items: Sequence[int] | NDArray[np.integer],
        at: int,
        *,
        positions: Sequence[int] | NDArray[np.integer] | None = None,
        history: History | None = None,
    ) -> NDArray[np.float64]:
        """(K,) probability of a purchase of each item; as `click_probability` otherwise."""
        return self.outcome_probabilities(user, items, at, positions=positions, history=history)[:, PURCHASE]

    def true_next_distribution(
        self, user: int, at: int, *, history: History | None = None, scene: str = "home"
    ) -> NDArray[np.float64]:
        """(N,) which item the log's next engagement goes to, given what the logging policy shows in a scene.

        P(j next) ∝ attraction(j) Σ_p examination(p) q_j (1 - q_j)^(p-1), with q the distribution from which
        slates are filled: exact up to the rare slates with two engagements or a repeated draw.
        """
        every = np.arange(len(self.items))
        wish, wanted = self._wish_of(user, every, at, history)
        relevant = relevance(self.config, np.array([SCENES.index(scene)]))
        drawn = wish.probability(exposure(wish.blend, relevant), every[None])[0]
        places = np.arange(self.config.slate_size)[:, None]
        shown = examination(self.config, self.config.slate_size) @ (drawn * (1 - drawn) ** places)
        weight = shown * attraction(self.config, wanted)
        return np.asarray(weight / weight.sum())

    def expected_reward(
        self,
        user: int,
        slate: Sequence[int] | NDArray[np.integer],
        at: int,
        *,
        weights: Mapping[Action, float] = CLICKS,
        history: History | None = None,
    ) -> float:
        """The expected sum of `weights` over what a user does with a slate shown in this order."""
        positions = np.arange(1, len(slate) + 1)
        shares = self.outcome_probabilities(user, slate, at, positions=positions, history=history)
        return float((shares @ _reward_vector(weights)).sum())

    def best_slate(
        self,
        user: int,
        k: int,
        at: int,
        *,
        weights: Mapping[Action, float] = CLICKS,
        history: History | None = None,
    ) -> NDArray[np.int64]:
        """(k,) the slate of greatest expected reward among items on offer and not yet taken, best first.

        Sorting by reward is exact, because positions are looked at independently of what stands in them.
        """
        every = np.arange(len(self.items))
        free = self._wish_of(user, every, at, history)[1] > 0
        reward = self.outcome_probabilities(user, every, at, history=history) @ _reward_vector(weights)
        best = np.argsort(-np.where(free, reward, -np.inf), kind="stable")
        return np.asarray(best[: min(k, int(free.sum()))])

    def logged_slate(
        self, user: int, rng: np.random.Generator, at: int, *, history: History | None = None, scene: str = "home"
    ) -> NDArray[np.int64]:
        """A slate as the policy that made the log would show it."""
        wish, _ = self._wish_of(user, [], at, history)
        slate = fill_slates(self.config, wish, np.array([SCENES.index(scene)]), rng)[0]
        return np.asarray(slate[slate >= 0])

    def respond(
        self,
        user: int,
        slate: Sequence[int] | NDArray[np.integer],
        rng: np.random.Generator,
        at: int,
        *,
        history: History | None = None,
    ) -> list[Event]:
        """What a user does with a slate shown at a moment: its impressions, then the actions in order."""
        chosen = np.asarray(slate, dtype=np.int64)
        attracted = self.click_probability(user, chosen, at, history=history)
        sensitivity = self.user_truth.price_sensitivity[[user]]
        reaction = react(self.config, self.item_truth, chosen[None], attracted[None], sensitivity, rng)
        moments = at + np.cumsum(rng.integers(3, 9, size=len(chosen)))
        name, ids = self.users.id_of(user), [self.items.id_of(int(item)) for item in chosen]
        events = [Event(name, one, at, Action.IMPRESSION, float(p), p) for p, one in enumerate(ids, start=1)]
        for column in np.flatnonzero(reaction.action[0]):
            value = float(reaction.value[0, column])
            action = ACTIONS[reaction.action[0, column]]
            kept = None if np.isnan(value) else value
            events.append(Event(name, ids[column], int(moments[column]), action, kept, int(column) + 1))
        return events

    def after(self, history: History, events: Sequence[Event]) -> History:
        """A history with the engagements of a response added."""
        wanted = [one for one in events if one.action in POSITIVE_ACTIONS]
        items = self.items.encode(one.item_id for one in wanted)
        times = np.array([one.timestamp for one in wanted], dtype=np.int64)
        return History(np.concatenate([history.items, items]), np.concatenate([history.timestamps, times]))

    @cached_property
    def _places(self) -> Places:
        return Places(self.config, self.item_truth)

    @cached_property
    def _popular(self) -> NDArray[np.float64]:
        return self._places.popular_by_day()

    def _wish_of(
        self, user: int, items: Sequence[int] | NDArray[np.integer], at: int, history: History | None
    ) -> tuple[Wish, NDArray[np.float64]]:
        """The user's wish at a moment, and its probability of each item (K,)."""
        self._checked(user, len(self.users), "user")
        past = self.history(user, at) if history is None else history
        chosen = np.asarray(items, dtype=np.int64)
        if len(chosen):
            self._checked(int(chosen.min()), len(self.items), "item")
            self._checked(int(chosen.max()), len(self.items), "item")
        day = self.config.day_of(at)
        today = past.timestamps // DAY_SECONDS >= at // DAY_SECONDS
        before = np.zeros((1, len(self.items)), dtype=bool)
        before[0, past.items[~today]] = True
        rows, days = np.array([user]), np.array([day])
        offer = Offer(self._places, self._popular, self.user_truth, rows, days, before)
        wish = Wish(offer, State.recall(self.item_truth, past.items, today), np.array([0]))
        return wish, wish.probability(wish.blend, chosen[None])[0]

    @staticmethod
    def _checked(index: int, count: int, what: str) -> int:
        if not 0 <= index < count:
            raise UnknownIdError(f"{what} index {index} is not one of the market's {count} {what}s, 0 to {count - 1}")
        return index


def _reward_vector(weights: Mapping[Action, float]) -> NDArray[np.float64]:
    return np.array([weights.get(one, 0.0) for one in OUTCOMES])
