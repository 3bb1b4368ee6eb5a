"""What is known of items, and which of them answer a question about it: categories and price ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.core.errors import RequestError
from asterism.core.records import CATEGORIES, PRICE


@dataclass(frozen=True, slots=True)
class Predicate:
    """A question about an item's attributes; an item that lacks the attribute does not answer it.

    With several categories one of them is enough; price bounds are included.
    """

    categories: frozenset[str] = frozenset()  # empty: any or none
    lowest_price: float | None = None
    highest_price: float | None = None

    def __post_init__(self) -> None:
        low, high = self.lowest_price, self.highest_price
        if any(one is not None and np.isnan(one) for one in (low, high)):
            raise RequestError("a price bound is not a number")
        if low is not None and high is not None and low > high:
            raise RequestError(f"no price lies between {low} and {high}; the lower bound comes first")


@dataclass(frozen=True, slots=True)
class ItemAttributes:
    """Attributes by item index."""

    category_names: tuple[str, ...]
    items: NDArray[np.int32]  # of each pair of item and category, ascending
    categories: NDArray[np.int32]  # of each pair, positions in `category_names`
    prices: NDArray[np.float64]  # (items,) NaN where unknown

    @classmethod
    def of_table(cls, table: pa.Table) -> ItemAttributes:
        """The attributes in an items table, row i being item index i; columns may be absent."""
        names: tuple[str, ...] = ()
        items = categories = np.empty(0, dtype=np.int32)
        if CATEGORIES in table.column_names and not pa.types.is_null(table[CATEGORIES].type):
            lists = table[CATEGORIES].combine_chunks()
            encoded = pc.list_flatten(lists).dictionary_encode()
            known = np.flatnonzero(pc.is_valid(encoded).to_numpy(zero_copy_only=False))
            names = tuple(encoded.dictionary.to_pylist())
            items = pc.list_parent_indices(lists).to_numpy()[known].astype(np.int32)
            categories = encoded.indices.fill_null(0).to_numpy()[known].astype(np.int32)
        prices = np.full(len(table), np.nan)
        if PRICE in table.column_names:
            prices = table[PRICE].cast(pa.float64()).fill_null(np.nan).to_numpy().copy()
        return cls(names, items, categories, prices)

    def __len__(self) -> int:
        return len(self.prices)

    def changed(self, items: Mapping[int, tuple[Sequence[str], float | None]]) -> ItemAttributes:
        """The same where some items, by index, have other categories and another price (None: unknown)."""
        codes = {name: code for code, name in enumerate(self.category_names)}
        pairs = [
            (item, codes.setdefault(name, len(codes)))
            for item, (names, _) in items.items()
            for name in dict.fromkeys(names)
        ]
        kept = ~np.isin(self.items, list(items))
        fresh = np.array(pairs, dtype=np.int32).reshape(-1, 2)
        rows = np.concatenate([self.items[kept], fresh[:, 0]])
        categories = np.concatenate([self.categories[kept], fresh[:, 1]])
        order = np.argsort(rows, kind="stable")
        used, places = np.unique(categories[order], return_inverse=True)  # a category that no item has is none
        all_names = list(codes)
        prices = self.prices.copy()
        prices[list(items)] = [np.nan if price is None else price for _, price in items.values()]
        names = tuple(all_names[code] for code in used.tolist())
        return ItemAttributes(names, rows[order], places.astype(np.int32), prices)


def mask_of(attributes: ItemAttributes, asked: Predicate) -> NDArray[np.bool_]:
    """(items,) True where an item answers the predicate; raises `RequestError` on a category that no item has."""
    mask = np.ones(len(attributes), dtype=np.bool_)
    if asked.categories:
        wanted = [_position(attributes, name) for name in sorted(asked.categories)]
        chosen = np.zeros(len(attributes.category_names), dtype=np.bool_)
        chosen[wanted] = True
        mask[:] = False
        mask[attributes.items[chosen[attributes.categories]]] = True
    if asked.lowest_price is not None:
        mask &= attributes.prices >= asked.lowest_price
    if asked.highest_price is not None:
        mask &= attributes.prices <= asked.highest_price
    return mask


def _position(attributes: ItemAttributes, name: str) -> int:
    try:
        return attributes.category_names.index(name)
    except ValueError:
        raise RequestError(f"no item has the category {name!r}; ask for one of the catalogue's") from None
