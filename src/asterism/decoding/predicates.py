"""Filters that follow from what is known of items: categories and price ranges."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from sys import getsizeof
from typing import Final

from asterism.data.item_attributes import ItemAttributes, Predicate, mask_of
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.sieve import sieve_bytes
from asterism.decoding.trie_layout import Layout

#: What kept filters take at most; the one used longest ago goes first.
_KEPT_BYTES: Final = 256 << 20
#: What Python's objects around a filter's arrays take.
_OBJECTS: Final = 2 << 10


class PredicateFilters:
    """Filters by predicate over one state of the attributes, kept for the next request that asks the same."""

    def __init__(self, attributes: ItemAttributes, codebook_sizes: Sequence[int]) -> None:
        """`codebook_sizes` are those of the trie that is filtered: a kept filter also keeps its sieve."""
        self._attributes = attributes
        self._kept: OrderedDict[Predicate, ItemFilter] = OrderedDict()
        self._arrays = len(attributes) + sieve_bytes(Layout.of(codebook_sizes))
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What the kept filters take, their sieves included."""
        return self._bytes

    def filter_of(self, asked: Predicate) -> ItemFilter:
        """The filter for a predicate; raises `RequestError` on a category that no item has."""
        found = self._kept.get(asked)
        if found is not None:
            self._kept.move_to_end(asked)
            return found
        found = self._kept[asked] = ItemFilter.of_mask(mask_of(self._attributes, asked))
        self._bytes += self._taken_by(asked)
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._taken_by(self._kept.popitem(last=False)[0])
        return found

    def _taken_by(self, asked: Predicate) -> int:
        return self._arrays + _OBJECTS + getsizeof(asked.categories) + sum(map(getsizeof, asked.categories))
