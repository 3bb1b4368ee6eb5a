"""Item cards as JSON, encoded once for all answers that hold them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from asterism.core.errors import AsterismError
from asterism.core.semantic_id import SemanticId
from asterism.serving.http.cards import card_of
from asterism.stores.catalogue import Catalogue, Item
from asterism.stores.outages import Outage

#: Cards that are kept, of some 600 bytes each.
MAX_CARDS: Final = 100_000
_READ_ALONG: Final = 500  # cards that are likely to be asked for next, with each one that is asked for

_encode = msgspec.json.Encoder().encode


class Card(NamedTuple):
    """An item's card without its closing brace, so that an answer adds how the item came into it."""

    item: Item
    codes: SemanticId | None  # that it shows
    start: bytes
    is_known: bool = True  # else nothing could be read of the item


class CardShelf:
    """The cards of items as the catalogue has them now; for one event loop.

    Where the catalogue cannot be read, an item is shown as it was, or by its id alone where it never was.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        semantic_id: Callable[[str], SemanticId | None],
        expected: Iterable[str] = (),
        most: int = MAX_CARDS,
    ) -> None:
        """Cards of `expected` items are read along with those that are asked for, until all are there."""
        self._catalogue = catalogue
        self._semantic_id = semantic_id
        self._most = most
        self._cards: dict[str, Card] = {}
        self._earlier: dict[str, Card] = {}  # of the catalogue before its last change
        self._to_read = list(islice(expected, most))
        self._state: frozenset[str] | None = None
        self._outage = Outage("the catalogue", "items are shown as they were known")

    async def take(self, item_ids: Iterable[str]) -> dict[str, Card]:
        """The cards of those items that exist."""
        self._follow_catalogue()
        taken: dict[str, Card] = {}
        missing = []
        for one in item_ids:
            card = self._cards.get(one)
            if card is None:
                missing.append(one)
                continue
            if card.codes != self._semantic_id(one):  # the engine told them meanwhile, or another bundle is served
                card = self._cards[one] = self._card(card.item)
            taken[one] = card
        return {**taken, **(await self._read(missing))} if missing else taken

    async def _read(self, item_ids: list[str]) -> dict[str, Card]:
        state = self._state
        along = self._to_read[-_READ_ALONG:]
        del self._to_read[-_READ_ALONG:]
        try:
            cards = await asyncio.to_thread(self._cards_of, [*item_ids, *along])
        except AsterismError as error:
            self._outage.begins(error)
            return {one: self._earlier.get(one) or self._unknown(one) for one in item_ids}
        self._outage.ends()
        self._follow_catalogue()
        if self._state is state:  # else they may be of the catalogue before its change
            self._keep(cards)
        return {one: cards[one] for one in item_ids if one in cards}

    def _cards_of(self, item_ids: list[str]) -> dict[str, Card]:
        return {one: self._card(item) for one, item in self._catalogue.many(item_ids).items()}

    def _keep(self, cards: dict[str, Card]) -> None:
        for item_id, card in cards.items():
            self._cards.pop(item_id, None)  # so that it stands behind all that were read before
            self._cards[item_id] = card
        while len(self._cards) > self._most:
            del self._cards[next(iter(self._cards))]

    def _follow_catalogue(self) -> None:
        """Begin anew where the catalogue has changed: it gives another object then."""
        state = self._outage.spared(self._catalogue.unavailable)
        if state is not None and state is not self._state:
            if self._state is not None:
                self._earlier |= self._cards
                self._to_read = list(self._earlier)[-self._most :]
            self._state, self._cards = state, {}
            while len(self._earlier) > self._most:
                del self._earlier[next(iter(self._earlier))]

    def _card(self, item: Item) -> Card:
        codes = self._semantic_id(item.item_id)
        return Card(item, codes, _encode(card_of(item, codes))[:-1])

    def _unknown(self, item_id: str) -> Card:
        return self._card(Item(item_id, item_id))._replace(is_known=False)
