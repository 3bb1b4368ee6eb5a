"""A call at a later moment, of which there is one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

_FINEST_SECONDS: Final = 0.001  # uvloop counts in milliseconds, and calls at once what is due in less than half of one


class Alarm:
    """Calls back at the earliest moment that was asked for, on any event loop: uvloop's handles tell no time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._moment: float | None = None
        self._handle: asyncio.Handle | None = None

    def set(self, moment: float) -> None:
        """Call at this moment of `time.monotonic`, unless a call is due before."""
        if self._moment is not None and self._moment <= moment:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._moment = moment
        delay = max(_FINEST_SECONDS, moment - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._moment = self._handle = None
        self._call()
