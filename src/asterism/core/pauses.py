"""The interpreter's habits, set for processes that answer within milliseconds."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Final

_SWITCH_SECONDS: Final = 0.0005  # ten times as often as is usual: an event loop must not wait for a busy thread
_YOUNG, _MIDDLE, _ALL = range(3)  # generations, each collected with those before it
_TURN_SECONDS: Final = 0.1
_TURNS_MIDDLE: Final = 3
_TURNS_LOOK: Final = 100  # at how much there is, which takes a millisecond
_TURNS_ALL: Final = 600  # where nobody has to wait for it
_TURNS_ALL_LATEST: Final = 36_000
_GROWTH: Final = 1.5  # of all that is allocated, after which it pays to walk it; filling caches is less


def keep_pauses_short() -> None:
    """Have threads give way sooner, and collections come seldom and pass over what is there now.

    To be called once all is loaded that stays: a collection that walks a catalogue's objects stalls every request.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)  # a request makes no cycles, so little waits for a collection


class PacedCollections:
    """Collections by the clock, for an event loop whose caches are full.

    The interpreter waits until so much more was made than freed; where a cache lets go of as much as it takes in, that
    is long, and what was made meanwhile is walked at once. In small steps it is walked while it is little. What lived
    for longer is walked a minute later if nobody asks just then, once memory grew by a half, or after an hour.
    """

    def __init__(self, work_done: Callable[[], int]) -> None:
        """`work_done` counts what was answered so far."""
        self._work_done = work_done
        self._work = self._work_then = work_done()  # at the last turn, and when all was walked
        self._blocks_then = sys.getallocatedblocks()
        self._turns = 0  # since then

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            await asyncio.sleep(_TURN_SECONDS)
            self.turn()

    def turn(self) -> None:
        """Collect what is due."""
        work = self._work_done()
        is_idle, self._work = work == self._work, work
        self._turns += 1
        if self._all_is_due(is_idle=is_idle):
            gc.collect(_ALL)
            self._work_then, self._blocks_then, self._turns = work, sys.getallocatedblocks(), 0
        else:
            gc.collect(_YOUNG if self._turns % _TURNS_MIDDLE else _MIDDLE)

    def _all_is_due(self, *, is_idle: bool) -> bool:
        if self._turns % _TURNS_LOOK == 0 and sys.getallocatedblocks() > _GROWTH * self._blocks_then:
            return True
        if is_idle and self._work != self._work_then and self._turns >= _TURNS_ALL:
            return True
        return self._turns >= _TURNS_ALL_LATEST
