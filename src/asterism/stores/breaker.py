"""Circuit breakers: what fails or drags is not asked for a while, so that whoever asks need not wait to hear it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BUCKETS: Final = 10  # that the window is counted in


class BreakerState(StrEnum):
    """Closed lets through, open refuses, half open waits for the one call that tries."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When it opens: of at least so many calls in the window this share failed, or took `slow_seconds`."""

    window_seconds: float = 10.0
    least_calls: int = 10
    bad_share: float = 0.5
    slow_seconds: float = 10.0
    open_seconds: float = 1.0


class Call:
    """A call that was let through."""

    __slots__ = ("begun", "generation", "is_over")

    def __init__(self, begun: float, generation: int) -> None:
        self.begun = begun
        self.generation = generation
        self.is_over = False


class CircuitBreaker:
    """Counts calls as they end, or once they are slow though they have not ended; for any number of threads.

    After `open_seconds` one call is let through: it closes the breaker if it is good, else all is as before it.
    """

    def __init__(
        self, settings: BreakerSettings | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings or BreakerSettings()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._width = self._settings.window_seconds / BUCKETS
        self._state = BreakerState.CLOSED
        self._opened_at = 0.0
        self._generation = 0
        self._under_way: deque[Call] = deque()
        self._newest = 0
        self._clear()

    @property
    def state(self) -> BreakerState:
        """As of now."""
        with self._lock:
            self._count_overdue(self._monotonic())
            return self._state

    def begin(self) -> Call | None:
        """Let a call through, which must be told to `end` or `abandon`; None where it is refused."""
        with self._lock:
            now = self._monotonic()
            self._count_overdue(now)
            if self._state is BreakerState.HALF_OPEN:
                return None
            if self._state is BreakerState.OPEN:
                if now < self._opened_at + self._settings.open_seconds:
                    return None
                self._state = BreakerState.HALF_OPEN
            call = Call(now, self._generation)
            self._under_way.append(call)
            return call

    def end(self, call: Call, *, failed: bool) -> None:
        """Count a call; one that was slow is counted as that already."""
        with self._lock:
            now = self._monotonic()
            self._count_overdue(now)
            if not call.is_over:
                call.is_over = True
                self._count(call, now, failed)

    def abandon(self, call: Call) -> None:
        """Leave out a call that tells nothing; where it was to try, the next one tries."""
        with self._lock:
            self._count_overdue(self._monotonic())
            if not call.is_over:
                call.is_over = True
                if call.generation == self._generation and self._state is BreakerState.HALF_OPEN:
                    self._state = BreakerState.OPEN

    def _count_overdue(self, now: float) -> None:
        slow = self._settings.slow_seconds
        while self._under_way and (self._under_way[0].is_over or self._under_way[0].begun + slow <= now):
            call = self._under_way.popleft()
            if not call.is_over:
                call.is_over = True
                self._count(call, call.begun + slow, True)

    def _count(self, call: Call, at: float, is_bad: bool) -> None:
        if call.generation != self._generation:
            return
        if self._state is BreakerState.HALF_OPEN:
            if is_bad:
                self._open(at)
            else:
                self._state = BreakerState.CLOSED
                self._generation += 1
                self._clear()
            return
        self._turn_to(int(at / self._width))
        place = self._newest % BUCKETS
        self._calls[place] += 1
        self._bad[place] += is_bad
        calls, bad = sum(self._calls), sum(self._bad)
        if calls >= self._settings.least_calls and bad >= self._settings.bad_share * calls:
            self._open(at)

    def _open(self, at: float) -> None:
        self._state = BreakerState.OPEN
        self._opened_at = at
        self._generation += 1

    def _turn_to(self, bucket: int) -> None:
        for passed in range(max(self._newest + 1, bucket - BUCKETS + 1), bucket + 1):
            self._calls[passed % BUCKETS] = self._bad[passed % BUCKETS] = 0
        self._newest = max(self._newest, bucket)

    def _clear(self) -> None:
        self._calls = [0] * BUCKETS
        self._bad = [0] * BUCKETS
        self._newest = 0
