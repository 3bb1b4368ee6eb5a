"""The counts port: how often each item was wanted, as all gateways together saw it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Protocol


class ItemCounts(Protocol):
    """Counts by item; every method may be called from any thread."""

    def add(self, item_ids: Iterable[str]) -> None:
        """Count one more for each of these items, as often as it is named."""
        ...

    def read(self) -> dict[str, int]:
        """All counts that are not zero."""
        ...


class LocalItemCounts:
    """Implements `ItemCounts` in the memory of one process."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, item_ids: Iterable[str]) -> None:
        """See `ItemCounts.add`."""
        with self._lock:
            self._counts.update(item_ids)

    def read(self) -> dict[str, int]:
        """See `ItemCounts.read`."""
        with self._lock:
            return dict(self._counts)
