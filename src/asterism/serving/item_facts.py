"""What the read path knows of items, by their place in the catalogue; asked without touching a disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import isqrt
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core.errors import RequestError
from asterism.core.ids import IdMap
from asterism.core.records import CATEGORIES, PRICE
from asterism.data.item_attributes import ItemAttributes, Predicate, mask_of
from asterism.stores.catalogue import Item

#: So many bytes of masks are kept at most; the predicate asked longest ago goes first.
_KEPT_BYTES: Final = 64 << 20


class ItemFacts:
    """Categories, brands, prices and ages of the items of a bundle; an item that came later has none.

    Never changed: what was changed by hand makes another one.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.ids = IdMap(item.item_id for item in items)
        prices = pa.array([item.price for item in items], pa.float64())
        lists = pa.array([list(dict.fromkeys(item.categories)) for item in items], pa.list_(pa.string()))
        attributes = ItemAttributes.of_table(pa.table({CATEGORIES: lists, PRICE: prices}))
        names = tuple(sorted({item.brand for item in items if item.brand}))
        codes = {name: code for code, name in enumerate(names)}
        brands = np.array([codes.get(item.brand or "", -1) for item in items] + [-1], dtype=np.int64)
        created_at = [_moment(item) for item in items]
        self._take(attributes, names, brands, np.array([*created_at, np.nan], dtype=np.float64))

    def _take(
        self,
        attributes: ItemAttributes,
        brand_names: tuple[str, ...],
        brands: NDArray[np.int64],
        created_at: NDArray[np.float64],
    ) -> None:
        """`brands` and `created_at` hold one row more, which the index -1 of an unknown item leads to."""
        self._attributes = attributes
        self.category_names = attributes.category_names
        self._category_codes = {name: code for code, name in enumerate(self.category_names)}
        self.brand_names, self.brands, self.created_at = brand_names, brands, created_at
        self._brand_codes = {name: code for code, name in enumerate(brand_names)}
        self._starts = np.searchsorted(attributes.items, np.arange(len(attributes) + 2))
        dated = np.flatnonzero(~np.isnan(created_at))
        self.newest = dated[np.argsort(-created_at[dated], kind="stable")]
        self._mask = lru_cache(max(1, _KEPT_BYTES // max(1, len(attributes))))(partial(_mask_of, attributes))

    def changed(self, items: Iterable[Item]) -> ItemFacts:
        """The same where some of the items are others now; those that are none of them are passed over."""
        known = {row: item for item in items if (row := self.ids.get(item.item_id)) is not None}
        if not known:
            return self
        rows = np.array(list(known), dtype=np.int64)
        names = dict(self._brand_codes)
        brands, created_at = self.brands.copy(), self.created_at.copy()
        brands[rows] = [names.setdefault(one.brand, len(names)) if one.brand else -1 for one in known.values()]
        created_at[rows] = [_moment(one) for one in known.values()]
        found = copy(self)
        of_rows = {row: (one.categories, one.price) for row, one in known.items()}
        found._take(self._attributes.changed(of_rows), tuple(names), brands, created_at)
        return found

    def __len__(self) -> int:
        return len(self.ids)

    def says_the_same(self, other: ItemFacts) -> bool:
        """Whether another one of the same items holds the same of each."""
        if (self.category_names, self.brand_names) != (other.category_names, other.brand_names):
            return False
        mine, theirs = self._attributes, other._attributes
        pairs = (
            (mine.items, theirs.items),
            (mine.categories, theirs.categories),
            (mine.prices, theirs.prices),
            (self.brands, other.brands),
            (self.created_at, other.created_at),
        )
        return all(np.array_equal(one, another, equal_nan=one.dtype.kind == "f") for one, another in pairs)

    def mask(self, wanted: Predicate) -> NDArray[np.bool_]:
        """(items,) who answers a predicate; none where no item has any of its categories."""
        return self._mask(wanted)

    def category_pairs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Pairs of a position in `rows` (n,) of item indices, -1 for unknown ones, and a category of that item."""
        known = np.where(rows < 0, len(self), rows)
        starts, counts = self._starts[known], self._starts[known + 1] - self._starts[known]
        positions = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
        return positions, self._attributes.categories[np.repeat(starts, counts) + within]

    def named(
        self, rows: NDArray[np.int64], items: Iterable[str], categories: Iterable[str], brands: Iterable[str]
    ) -> NDArray[np.bool_]:
        """(n,) which of the items at `rows`, -1 for unknown ones, are named by id, category or brand."""
        mask = np.isin(rows, self.ids.encode(items))
        codes = [code for code in map(self._category_codes.get, categories) if code is not None]
        if codes:
            positions, found = self.category_pairs(rows)
            mask[positions[np.isin(found, codes)]] = True
        made_by = [code for code in map(self._brand_codes.get, brands) if code is not None]
        if made_by:
            mask |= np.isin(self.brands[rows], made_by)
        return mask & (rows >= 0)

    def check_categories(self, names: Iterable[str]) -> None:
        """Raise `RequestError` on a category that no item has."""
        for name in names:
            if name not in self._category_codes:
                raise RequestError(f"no item has the category {name!r}; ask for one of the catalogue's")

    def everywhere(self) -> NDArray[np.int64]:
        """The categories that every item has."""
        counts = np.bincount(self._attributes.categories, minlength=len(self.category_names))
        return np.flatnonzero(counts >= len(self))


def _mask_of(attributes: ItemAttributes, wanted: Predicate) -> NDArray[np.bool_]:
    known = wanted.categories.intersection(attributes.category_names)
    if wanted.categories and not known:
        return np.zeros(len(attributes), dtype=np.bool_)
    return mask_of(attributes, replace(wanted, categories=known))


def _moment(item: Item) -> float:
    return np.nan if item.created_at is None else item.created_at


@dataclass(frozen=True, slots=True)
class Eligible:
    """The items that an answer may hold."""

    facts: ItemFacts
    wanted: Predicate | None
    allowed: frozenset[str] | None
    excluded: Collection[str]
    unavailable: Collection[str]

    def __contains__(self, item_id: str) -> bool:
        if item_id in self.excluded or item_id in self.unavailable:
            return False
        if self.allowed is not None and item_id not in self.allowed:
            return False
        if self.wanted is None:
            return True
        row = self.facts.ids.get(item_id)
        return row is not None and bool(self.facts.mask(self.wanted)[row])

    def few(self) -> list[str] | None:
        """All of them, where they are so few that sorting them is faster than looking for them among all."""
        if self.allowed is not None:
            return [one for one in self.allowed if one in self and one in self.facts.ids]
        if self.wanted is None:
            return None
        rows = np.flatnonzero(self.facts.mask(self.wanted))
        if len(rows) > 10 * isqrt(len(self.facts)):
            return None
        return [one for one in map(self.facts.ids.id_of, rows.tolist()) if one in self]
