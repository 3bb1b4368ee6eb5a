"""Questions to the engine that are under way: who asks the same at the same time shares the answer, and its cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from typing import NamedTuple

from asterism.stores.slates import Slate

Flight = asyncio.Task[Slate]


async def landed(flight: Flight, seconds: float) -> None:
    """Return once a flight has landed, or after so long; `asyncio.wait` for the one case that is asked so often."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake(_: Flight | None = None) -> None:
        if not waiting.done():
            waiting.set_result(None)

    timer = loop.call_later(seconds, wake)
    flight.add_done_callback(wake)
    try:
        await waiting
    finally:
        timer.cancel()
        flight.remove_done_callback(wake)


class _UnderWay(NamedTuple):
    flight: Flight
    items: int  # asked for
    joinable_until: float  # on the clock of time.monotonic


class Flights:
    """Questions by what they ask; for one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, _UnderWay] = {}

    def joinable(self, question: Hashable, count: int) -> Flight | None:
        """One under way that asks the same for as many items at least, and still has time enough for a newcomer."""
        found = self._under_way.get(question)
        if found is None or found.items < count or time.monotonic() > found.joinable_until:
            return None
        return found.flight

    def add(self, question: Hashable, flight: Flight, count: int, joinable_seconds: float) -> None:
        """Let others join until the flight has landed, or for so long."""
        mine = _UnderWay(flight, count, time.monotonic() + joinable_seconds)
        self._under_way[question] = mine
        flight.add_done_callback(lambda _: self._land(question, mine))

    def _land(self, question: Hashable, landed: _UnderWay) -> None:
        if self._under_way.get(question) is landed:
            del self._under_way[question]

    def __len__(self) -> int:
        return len(self._under_way)
