"""What was changed of the served items by hand, for filters, boosts, rules and caps, which ask no database."""

from __future__ import annotations

import asyncio
from typing import Final

from asterism.core.errors import AsterismError
from asterism.serving.item_facts import ItemFacts
from asterism.serving.recommender import Recommender
from asterism.stores.catalogue import Catalogue
from asterism.stores.outages import Outage

_LOOK_SECONDS: Final = 0.2


class ItemFollowing:
    """Brings it to a recommender; for one event loop.

    Each change of the catalogue, by whichever process, has those items read that were changed since.
    """

    def __init__(self, catalogue: Catalogue, recommender: Recommender) -> None:
        self._catalogue = catalogue
        self._recommender = recommender
        self._state: frozenset[str] | None = None  # of the catalogue when it was asked last
        self._number = 0  # of the last change that is known
        self._of_bundle = recommender.facts  # what the bundle itself says
        self._known = recommender.facts  # by us
        self._outage = Outage("changes of the served items", "filters go by what was known of them")

    async def follow(self) -> None:
        """Look for changes until cancelled."""
        while True:
            try:
                await self._look()
            except AsterismError as error:
                self._outage.begins(error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        if self._recommender.facts is not self._known:  # another bundle was deployed
            self._start_anew(self._recommender.facts)
        now = self._catalogue.unavailable()  # another object after every change
        if now is self._state:
            return
        number, items = await asyncio.to_thread(self._catalogue.changed_since, self._number)
        before = self._known if number >= self._number else self._of_bundle
        facts = await asyncio.to_thread(before.changed, items)
        self._outage.ends()
        if self._recommender.facts is self._known:  # else another bundle was deployed meanwhile
            self._recommender.know(facts)
            self._known, self._number, self._state = self._recommender.facts, number, now

    def _start_anew(self, facts: ItemFacts) -> None:
        self._of_bundle = self._known = facts
        self._number, self._state = 0, None
