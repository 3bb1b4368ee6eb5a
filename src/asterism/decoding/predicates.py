"""Filters that follow from what is known of items: categories and price ranges."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from asterism.data.item_attributes import ItemAttributes, Predicate, mask_of
from asterism.decoding.item_filter import ItemFilter

#: So many bytes of masks are kept at most; the filter used longest ago goes first.
_KEPT_BYTES: Final = 256 << 20


class PredicateFilters:
    """Filters by predicate over one state of the attributes, kept for the next request that asks the same."""

    def __init__(self, attributes: ItemAttributes) -> None:
        self._attributes = attributes
        self._kept: OrderedDict[Predicate, ItemFilter] = OrderedDict()
        self._room = max(1, _KEPT_BYTES // max(1, len(attributes)))

    def filter_of(self, asked: Predicate) -> ItemFilter:
        """The filter for a predicate; raises `RequestError` on a category that no item has."""
        found = self._kept.pop(asked, None) or ItemFilter.of_mask(mask_of(self._attributes, asked))
        self._kept[asked] = found
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        return found
