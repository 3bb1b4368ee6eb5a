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


def interest_weights(recent: Sequence[RecentEvent], categories_of: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Shares by category that sum to one, largest first; an event weighs half as much as one 20 events newer."""
    weights: Counter[str] = Counter()
    for age, event in enumerate(reversed(recent)):
        for category in categories_of.get(event.item_id, ()):
            weights[category] += ACTION_WEIGHTS[event.action] * 0.5 ** (age / HALF_LIFE_EVENTS)
    total = sum(weights.values())
    ordered = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
    return {category: weight / total for category, weight in ordered}


class Categories:
    """The categories of every item, and how telling each category is."""

    def __init__(self, of_item: Mapping[str, tuple[str, ...]]) -> None:
        self.of_item = of_item
        self._sizes = Counter(category for categories in of_item.values() for category in set(categories))

    def segment(self, recent: Sequence[RecentEvent]) -> str | None:
        """The category that tells most about the user: a large share of their interest, a small one of the catalogue.

        The interest weight times the inverse frequency log(items / items in the category), so that a
        category that every item carries never is a segment.
        """
        scores = {
            category: weight * log(len(self.of_item) / self._sizes[category])
            for category, weight in interest_weights(recent, self.of_item).items()
        }
        best = max(scores, key=lambda category: scores[category], default=None)
        return best if best is not None and scores[best] > 0 else None
