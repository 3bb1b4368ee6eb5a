"""The catalogue port: what an item is to a person, and whether it may be shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple, Protocol

from asterism.core.records import Kind


@dataclass(frozen=True, slots=True)
class Item:
    """An item as people see it; `has_image` is set by the store, from the images it was given."""

    item_id: str
    title: str
    description: str | None = None
    categories: tuple[str, ...] = ()
    brand: str | None = None
    price: float | None = None
    kind: str = Kind.PRODUCT.value
    created_at: int | None = None  # Unix seconds
    available: bool = True
    has_image: bool = False


@dataclass(frozen=True, slots=True)
class StoredItem:
    """All that is known of an item, as it moves from one catalogue to another."""

    item: Item  # `available` is the item's own, whether it is hidden or not
    hidden: bool = False
    image: str | None = None  # SVG text


class ItemFilter(NamedTuple):
    """What an item must answer; one that lacks a price lies in no price range."""

    categories: tuple[str, ...] = ()  # one of them is enough
    brands: tuple[str, ...] = ()  # as well
    min_price: float | None = None  # bounds are included
    max_price: float | None = None

    def lets_through(self, item: Item) -> bool:
        """Whether an item answers."""
        if self.categories and not set(self.categories).intersection(item.categories):
            return False
        if self.brands and item.brand not in self.brands:
            return False
        if self.min_price is None and self.max_price is None:
            return True
        low = -inf if self.min_price is None else self.min_price
        high = inf if self.max_price is None else self.max_price
        return item.price is not None and low <= item.price <= high


ANY_ITEM: Final = ItemFilter()


class Catalogue(Protocol):
    """Items by id; every method may be called from any thread."""

    def upsert(self, items: Iterable[Item], images: Mapping[str, str] | None = None) -> None:
        """Add items or replace them, and the SVG images given for some; a hidden item stays hidden."""
        ...

    def sync(
        self, items: Iterable[Item], images: Mapping[str, str], version: str, beside: Collection[str] = ()
    ) -> None:
        """Take over a bundle's items; those of earlier bundles that are not among them become unavailable.

        What belongs to the versions that are served `beside` it stays as it is.
        Nothing is done where they were taken over last: what was changed by hand since stays so.
        """
        ...

    def get(self, item_id: str) -> Item:
        """One item; raises `UnknownIdError`."""
        ...

    def stored(self, item_id: str) -> StoredItem:
        """All that is known of an item; raises `UnknownIdError`."""
        ...

    def many(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """The items that exist among the given ids."""
        ...

    def search(
        self,
        text: str = "",
        *,
        category: str | None = None,
        available: bool | None = True,
        wanted: ItemFilter = ANY_ITEM,
        limit: int = 20,
    ) -> list[Item]:
        """Items whose title holds the text, in order of title; `available=None` lists hidden ones too."""
        ...

    def find(self, text: str, wanted: ItemFilter = ANY_ITEM, limit: int = 100) -> list[Item]:
        """Available items whose title, brand or categories hold a word of the text, best first.

        The text's last word may be the beginning of a word.
        """
        ...

    def image(self, item_id: str) -> str | None:
        """The SVG text of an item's image, or None; raises `UnknownIdError`."""
        ...

    def set_hidden(self, item_id: str, hidden: bool) -> None:
        """Hide an item from every recommendation, or show it again; raises `UnknownIdError`."""
        ...

    def change(self) -> int:
        """The number of the last change; smaller than before where an older copy was put in the catalogue's place."""
        ...

    def changed_since(self, number: int) -> Iterator[Item]:
        """The items that were changed by hand after a change, 0 being before all.

        Also those among them that a bundle has brought again since, as it has them.
        """
        ...

    def unavailable(self) -> frozenset[str]:
        """All ids that must not be recommended: unavailable or hidden.

        It is the same object until the catalogue has changed in any way, and another one then: who keeps what was read
        of items sees by it whether that still holds.
        """
        ...

    def delete(self, item_ids: Iterable[str]) -> int:
        """Forget items and their images; returns how many there were. A bundle's items stay unavailable."""
        ...

    def export(self, after: str = "") -> Iterator[StoredItem]:
        """Everything behind an id, in order of id; read in parts, so that a catalogue of any size passes through."""
        ...

    def restore(self, items: Iterable[StoredItem]) -> None:
        """Add or replace items together with their images and with whether they are hidden."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Let go of the files."""
        ...
