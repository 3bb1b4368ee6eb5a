"""The event ids port: which events were accepted lately, for a bus that does not know ids itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from asterism.core.clock import Clock
from asterism.stores.user_state import Visitor

#: For so long a client may send an event again and hear that it was known.
REMEMBERED_SECONDS: Final = 86_400.0


class EventIds(Protocol):
    """Ids by visitor; every method may be called from any thread."""

    def known(self, visitor: Visitor, event_ids: Sequence[str]) -> list[bool]:
        """Which of these ids of a visitor are remembered."""
        ...

    def remember(self, visitor: Visitor, event_ids: Sequence[str]) -> None:
        """Remember ids for a day; to be called once the events are durable, never before."""
        ...

    def forget(self, visitor: Visitor) -> None:
        """Delete all ids of a visitor."""
        ...


class LocalEventIds:
    """Implements `EventIds` in the memory of one process; of too many, the oldest leaves first."""

    def __init__(self, clock: Clock, max_ids: int = 1_000_000) -> None:
        self._clock = clock
        self._max_ids = max_ids
        self._at_seconds: OrderedDict[tuple[Visitor, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, visitor: Visitor, event_ids: Sequence[str]) -> list[bool]:
        """See `EventIds.known`."""
        oldest = self._clock.now() - REMEMBERED_SECONDS
        with self._lock:
            return [self._at_seconds.get((visitor, one), -1.0) > oldest for one in event_ids]

    def remember(self, visitor: Visitor, event_ids: Sequence[str]) -> None:
        """See `EventIds.remember`."""
        with self._lock:
            for one in event_ids:
                self._at_seconds[visitor, one] = self._clock.now()
                self._at_seconds.move_to_end((visitor, one))
            while len(self._at_seconds) > self._max_ids:
                self._at_seconds.popitem(last=False)

    def forget(self, visitor: Visitor) -> None:
        """See `EventIds.forget`."""
        with self._lock:
            for key in [one for one in self._at_seconds if one[0] == visitor]:
                del self._at_seconds[key]
