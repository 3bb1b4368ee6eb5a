"""A catalogue that goes on with what it last knew while the database is down."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from asterism.core.errors import StoreUnavailableError, UnknownIdError
from asterism.stores.catalogue import ANY_ITEM, Catalogue, Item, ItemFilter, StoredItem
from asterism.stores.outages import Outage

_MAX_ITEMS: Final = 200_000


class RememberedCatalogue:
    """Implements `Catalogue` over another one; `get` and `many` answer from memory where that cannot be reached.

    Of too many items those asked for longest ago are forgotten. Searches, images and changes need the database.
    """

    def __init__(self, catalogue: Catalogue, max_items: int = _MAX_ITEMS) -> None:
        self._catalogue = catalogue
        self._max_items = max_items
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._lock = threading.Lock()
        self._outage = Outage("the catalogue", "items are answered as they were last known")

    def has_met(self, item_id: str) -> bool:
        """Whether an item was in the catalogue when it was last heard of; asks nobody."""
        return item_id in self._items

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Those that are in no catalogue; none where that cannot be found out."""
        asked = [one for one in item_ids if one not in self._items]
        try:
            found = self._catalogue.many(asked) if asked else {}
        except StoreUnavailableError as error:
            self._outage.begins(error)
            return []
        self._outage.ends()
        self._remember(found.values())
        return [one for one in asked if one not in found]

    def get(self, item_id: str) -> Item:
        """See `Catalogue.get`."""
        found = self.many([item_id]).get(item_id)
        if found is None:
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue")
        return found

    def many(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """See `Catalogue.many`."""
        asked = list(item_ids)
        try:
            found = self._catalogue.many(asked)
        except StoreUnavailableError as error:
            self._outage.begins(error)
            with self._lock:
                return {one: self._items[one] for one in asked if one in self._items}
        self._outage.ends()
        self._remember(found.values())
        return found

    def upsert(self, items: Iterable[Item], images: Mapping[str, str] | None = None) -> None:
        """See `Catalogue.upsert`."""
        self._catalogue.upsert(items, images)

    def sync(
        self, items: Iterable[Item], images: Mapping[str, str], version: str, beside: Collection[str] = ()
    ) -> None:
        """See `Catalogue.sync`."""
        rows = list(items)
        self._catalogue.sync(rows, images, version, beside)
        self.many(one.item_id for one in rows[: self._max_items])

    def search(
        self,
        text: str = "",
        *,
        category: str | None = None,
        available: bool | None = True,
        wanted: ItemFilter = ANY_ITEM,
        limit: int = 20,
    ) -> list[Item]:
        """See `Catalogue.search`."""
        return self._catalogue.search(text, category=category, available=available, wanted=wanted, limit=limit)

    def stored(self, item_id: str) -> StoredItem:
        """See `Catalogue.stored`."""
        return self._catalogue.stored(item_id)

    def find(self, text: str, wanted: ItemFilter = ANY_ITEM, limit: int = 100) -> list[Item]:
        """See `Catalogue.find`."""
        return self._catalogue.find(text, wanted, limit)

    def image(self, item_id: str) -> str | None:
        """See `Catalogue.image`."""
        return self._catalogue.image(item_id)

    def set_hidden(self, item_id: str, hidden: bool) -> None:
        """See `Catalogue.set_hidden`."""
        self._catalogue.set_hidden(item_id, hidden)

    def change(self) -> int:
        """See `Catalogue.change`."""
        return self._catalogue.change()

    def changed_since(self, number: int) -> Iterator[Item]:
        """See `Catalogue.changed_since`; not remembered, as they may be many, and push out what is asked for."""
        return self._catalogue.changed_since(number)

    def unavailable(self) -> frozenset[str]:
        """See `Catalogue.unavailable`."""
        return self._catalogue.unavailable()

    def delete(self, item_ids: Iterable[str]) -> int:
        """See `Catalogue.delete`."""
        gone = list(item_ids)
        deleted = self._catalogue.delete(gone)
        with self._lock:
            for one in gone:
                self._items.pop(one, None)
        return deleted

    def export(self, after: str = "") -> Iterator[StoredItem]:
        """See `Catalogue.export`."""
        return self._catalogue.export(after)

    def restore(self, items: Iterable[StoredItem]) -> None:
        """See `Catalogue.restore`."""
        self._catalogue.restore(items)

    def __len__(self) -> int:
        return len(self._catalogue)

    def close(self) -> None:
        """See `Catalogue.close`."""
        self._catalogue.close()

    def _remember(self, items: Iterable[Item]) -> None:
        with self._lock:
            for one in items:
                self._items[one.item_id] = one
                self._items.move_to_end(one.item_id)
            while len(self._items) > self._max_items:
                self._items.popitem(last=False)
