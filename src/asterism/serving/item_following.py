"""The served items as the catalogue has them now, for filters, boosts, rules and caps, which ask no database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from typing import Final

from asterism.core.errors import AsterismError
from asterism.core.ids import IdMap
from asterism.serving.item_facts import ItemFacts
from asterism.serving.recommender import Recommender
from asterism.stores.catalogue import Catalogue, Item
from asterism.stores.outages import Outage

_LOOK_SECONDS: Final = 0.2
_PART: Final = 500  # items that are read at once
_REST: Final = 3.0  # times as long as a part took: what answers requests meanwhile shares the interpreter


class ItemFollowing:
    """Brings what was changed by hand to a recommender; for one event loop.

    Any change of the catalogue, by whichever process, makes it read all served items again, as none says which it was.
    """

    def __init__(self, catalogue: Catalogue, recommender: Recommender) -> None:
        self._catalogue = catalogue
        self._recommender = recommender
        self._state: frozenset[str] | None = None  # of the catalogue when it was read last
        self._ids: IdMap | None = None
        self._outage = Outage("the served items", "filters go by what was known of them")

    async def follow(self) -> None:
        """Look for changes until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self._look()
            except AsterismError as error:
                self._outage.begins(error)
            await asyncio.sleep(max(_LOOK_SECONDS, time.monotonic() - began))  # of many changes, half the time

    async def _look(self) -> None:
        now = self._catalogue.unavailable()  # another object after every change
        if now is self._state and self._recommender.item_ids is self._ids:
            return
        await self._take_over()
        self._outage.ends()
        self._state, self._ids = now, self._recommender.item_ids

    async def _take_over(self) -> None:
        ids = self._recommender.item_ids
        items: list[Item] = []
        waiting = iter(ids)
        while part := list(islice(waiting, _PART)):
            began = time.perf_counter()
            known = await asyncio.to_thread(self._items, part)
            if known is None:
                return
            items += known
            await asyncio.sleep(_REST * (time.perf_counter() - began))
        facts = await asyncio.to_thread(ItemFacts, items)
        if self._recommender.item_ids is ids:  # else another bundle was deployed meanwhile
            self._recommender.know(facts)

    def _items(self, ids: Sequence[str]) -> list[Item] | None:
        """What facts hold of items, nothing of deleted ones; None before the catalogue has those of the bundle."""
        found, gone = self._catalogue.many(ids), self._catalogue.unavailable()
        if any(one not in found and one not in gone for one in ids):
            return None
        return [_bare(found.get(one) or Item(one, "")) for one in ids]


def _bare(item: Item) -> Item:
    """Without its texts, as all items are held at once."""
    return Item(
        item.item_id, "", categories=item.categories, brand=item.brand, price=item.price, created_at=item.created_at
    )
