"""Which items may be given, on a device: what is available, and for a few filters at once what of that they allow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError, UnknownIdError
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.trie_layout import Indices

#: What the table may take: a catalogue of ten million items has 26 slots then.
_TABLE_BYTES: Final = 1 << 30
_BYTES_A_PLACE: Final = 4

Filters = Sequence[ItemFilter | None]


class Stock:
    """A table of slots: how many allowed items stand before each place in the order of paths.

    Slot 0 allows all that is available. Another is a filter's; who was asked for longest ago makes room. A change of
    what is available is seen by the next batch.
    """

    def __init__(self, by_path: Indices, most_filters: int, device: torch.device) -> None:
        """`by_path` (N,) items in the order of their paths; `most_filters` that a batch has."""
        count = len(by_path)
        self._by_path = by_path
        self._place_of = np.empty(count, dtype=np.int64)
        self._place_of[by_path] = np.arange(count)
        self._available = np.ones(count, dtype=np.bool_)  # by place
        self._changes = 0
        slots = 1 + min(most_filters, max(1, _TABLE_BYTES // (_BYTES_A_PLACE * (count + 1)) - 1))
        self._table = torch.zeros((slots, count + 1), dtype=torch.int32, device=device)
        self._written = [-1] * slots  # at which change
        self._slots: OrderedDict[int, int] = OrderedDict()  # by the filters' identities, used longest ago first
        self._filters: list[ItemFilter | None] = [None] * slots

    @property
    def table(self) -> Tensor:
        """(slots * (N + 1),) int32; where it lies never changes."""
        return self._table.view(-1)

    @property
    def most_filters(self) -> int:
        """How many filters a batch may have."""
        return len(self._written) - 1

    @property
    def known_items(self) -> int:
        """How many items there are, available or not."""
        return len(self._by_path)

    def __len__(self) -> int:
        """How many items are available."""
        return int(np.count_nonzero(self._available))

    def set_available(self, item: int, available: bool) -> None:
        """Take an item out, or back in; raises `UnknownIdError`."""
        if not 0 <= item < self.known_items:
            raise UnknownIdError(f"item index {item} is outside the catalogue of {self.known_items} items")
        place = self._place_of[item]
        if self._available[place] != available:
            self._available[place] = available
            self._changes += 1

    def require_items(self) -> None:
        """Raise `ModelError` if nothing is available."""
        if not self._available.any():
            raise ModelError("no item is available, so nothing can be recommended; make items available again")

    def places_of(self, items: Indices) -> Indices:
        """Where items (n,) stand; raises `UnknownIdError` beyond the catalogue."""
        self.check_known(items, "to leave out")
        return self._place_of[items]

    def check_known(self, items: NDArray[np.integer], what: str) -> None:
        """Raise `UnknownIdError` on an item index (n,) beyond the catalogue: a device would look there."""
        if len(items) and (int(items.min()) < 0 or int(items.max()) >= self.known_items):
            strange = items[(items < 0) | (items >= self.known_items)]
            raise UnknownIdError(
                f"item index {int(strange[0])} {what} is outside the catalogue of {self.known_items} items"
            )

    def slots_of(self, filters: Filters, rows: int) -> NDArray[np.int64]:
        """(rows,) the slots of a batch's filters, none or one a row, written and up to date."""
        self._refresh(0)
        if not filters:
            return np.zeros(rows, dtype=np.int64)
        asked = {id(one): one for one in filters if one is not None}
        for name in asked:
            if name in self._slots:
                self._slots.move_to_end(name)
        found = {name: self._slot_of(one) for name, one in asked.items()}
        return np.array([0 if one is None else found[id(one)] for one in filters], dtype=np.int64)

    def _slot_of(self, asked: ItemFilter) -> int:
        slot = self._slots.get(id(asked))
        if slot is None:
            is_full = len(self._slots) == self.most_filters
            slot = self._slots.popitem(last=False)[1] if is_full else len(self._slots) + 1
            self._slots[id(asked)] = slot
            self._filters[slot], self._written[slot] = asked, -1
        self._refresh(slot)
        return slot

    def _refresh(self, slot: int) -> None:
        if self._written[slot] == self._changes:
            return
        changes, asked = self._changes, self._filters[slot]  # a change that comes meanwhile is for the next batch
        flags = torch.from_numpy(self._available if asked is None else self._allowed(asked)).to(self._table.device)
        torch.cumsum(flags, 0, dtype=torch.int32, out=self._table[slot, 1:])
        self._written[slot] = changes

    def _allowed(self, asked: ItemFilter) -> NDArray[np.bool_]:
        """(N,) by place, what is available of what a filter allows; a short list costs little."""
        listed, _ = asked.parts
        if listed is None:
            return self._available & asked.allows(self._by_path)
        allowed = np.zeros(self.known_items, dtype=np.bool_)
        places = self._place_of[listed[: np.searchsorted(listed, self.known_items)]]
        allowed[places] = self._available[places]
        return allowed
