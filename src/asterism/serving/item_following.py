"""What was changed of the served items by hand, for filters, boosts, rules and caps, which ask no database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from asterism.core.errors import AsterismError
from asterism.serving.item_facts import ItemFacts
from asterism.serving.recommender import Recommender
from asterism.stores.catalogue import Catalogue
from asterism.stores.outages import Outage

_LOOK_SECONDS: Final = 0.2
_REST_SECONDS: Final = 1.0  # after a change, of which there may be many, or where the catalogue does not answer


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
            rest = _LOOK_SECONDS
            try:
                if await self._look():
                    rest = _REST_SECONDS
            except AsterismError as error:
                self._outage.begins(error)
                rest = _REST_SECONDS
            await asyncio.sleep(rest)

    async def _look(self) -> bool:
        """Whether something had changed."""
        if self._recommender.facts is not self._known:  # another bundle was deployed
            self._start_anew(self._recommender.facts)
        now = self._catalogue.unavailable()  # another object after every change
        if now is self._state:
            return False
        number, know = await asyncio.to_thread(self._read)
        self._outage.ends()
        if self._recommender.facts is self._known:  # else another bundle was deployed meanwhile
            know()
            self._known, self._number, self._state = self._recommender.facts, number, now
        return True

    def _read(self) -> tuple[int, Callable[[], None]]:
        """The last change, and what has the recommender go by it: to be called where nobody waits."""
        number = self._catalogue.change()  # first: what comes between is read twice, never missed
        is_older = number < self._number  # a copy was put in the catalogue's place
        before, after = (self._of_bundle, 0) if is_older else (self._known, self._number)
        items = [one for one in self._catalogue.changed_since(after) if one.item_id in before.ids]
        return number, self._recommender.prepared_facts(before.changed(items))

    def _start_anew(self, facts: ItemFacts) -> None:
        self._of_bundle = self._known = facts
        self._number, self._state = 0, None
