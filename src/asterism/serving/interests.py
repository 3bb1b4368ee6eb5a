"""What a user is into, by category: for the profile, and for the segment of the popularity fallback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log
from typing import Final

from asterism.core.records import Action
from asterism.stores.user_state import RecentEvent

#: How much an action says about interest, a view being one.
ACTION_WEIGHTS: Final[Mapping[Action, float]] = {
    Action.VIEW: 1.0,
    Action.CLICK: 1.0,
    Action.RATING: 1.5,
    Action.SHARE: 2.0,
    Action.FAVORITE: 2.0,
    Action.CART: 2.0,
    Action.PURCHASE: 3.0,
}
HALF_LIFE_EVENTS: Final = 20


class Categories:
    """The categories of every item, and how telling each category is."""

    def __init__(self, of_item: Mapping[str, tuple[str, ...]]) -> None:
        sizes = Counter(category for categories in of_item.values() for category in set(categories))
        self._of_item = of_item
        self._inverse_frequencies = {category: log(len(of_item) / size) for category, size in sizes.items()}

    def interests(self, recent: Sequence[RecentEvent]) -> dict[str, float]:
        """Shares by category that sum to one, largest first; an event weighs half as much as one 20 events newer.

        A category that every item carries tells nothing about anybody, and is left out.
        """
        weights: Counter[str] = Counter()
        for age, event in enumerate(reversed(recent)):
            for category in self._of_item.get(event.item_id, ()):
                if self._inverse_frequencies[category] > 0:
                    weights[category] += ACTION_WEIGHTS[event.action] * 0.5 ** (age / HALF_LIFE_EVENTS)
        total = sum(weights.values())
        ordered = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
        return {category: weight / total for category, weight in ordered}

    def segment(self, recent: Sequence[RecentEvent]) -> str | None:
        """The category that tells most about the user, by interest times log(items / items in the category)."""
        scores = {
            category: share * self._inverse_frequencies[category] for category, share in self.interests(recent).items()
        }
        return max(scores, key=lambda category: scores[category], default=None)
