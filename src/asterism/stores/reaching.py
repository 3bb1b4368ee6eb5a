"""Reaching a store over a network: bounded tries with jitter, then one sentence that says what to do."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from asterism.core.errors import AsterismError, StorageError, StoreUnavailableError
from asterism.stores.breaker import CircuitBreaker

logger = logging.getLogger(__name__)

_drawn = random.Random()  # of our own: what others draw from the global one stays what they seeded

T = TypeVar("T")

MAX_REASON: Final = 300  # characters of what a store's client says


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a call is tried, and how long the pauses may grow; none begins after `deadline_seconds`."""

    attempts: int = 3
    first_pause_seconds: float = 0.05
    longest_pause_seconds: float = 1.0
    deadline_seconds: float = 10.0

    def pause_seconds(self, failures: int, draw: Callable[[], float]) -> float:
        """The pause after so many failures: drawn from all of a doubling span, so that clients part."""
        return draw() * min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** (failures - 1))


ONCE = Tries(attempts=1)


@dataclass(frozen=True)
class Reach:
    """One store, as its errors are told: which, where, and what to do when it cannot be reached.

    A store that is down or drags is left alone for a second at a time, by its breaker.
    """

    store: str
    where: str  # without a password
    transient: tuple[type[Exception], ...]  # worth another try
    failures: tuple[type[Exception], ...] = ()  # the store answered, and said no
    tries: Tries = Tries()
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = _drawn.random
    monotonic: Callable[[], float] = time.monotonic
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    signs_of_no_room: tuple[str, ...] = ()  # in what it says then: it refuses everybody, not this one

    def call(self, action: Callable[[], T]) -> T:
        """The action's result; it must be one that may be done twice.

        Raises `StoreUnavailableError` after the last try or while the breaker is open, `StorageError` where
        the store refuses, which `is_full` where it has no room.
        """
        call = self.breaker.begin()
        if call is None:
            raise self.unavailable("it failed too often just now and is left alone for a second")
        try:
            result = self._tried(action)
        except StoreUnavailableError:
            self.breaker.end(call, failed=True)
            raise
        except BaseException:
            self.breaker.end(call, failed=False)
            raise
        self.breaker.end(call, failed=False)
        return result

    def _tried(self, action: Callable[[], T]) -> T:
        began = self.monotonic()
        failures = 0
        while True:
            try:
                return action()
            except AsterismError:
                raise
            except self.transient as error:
                failures += 1
                pause = self.tries.pause_seconds(failures, self.draw)
                spent = self.monotonic() - began
                if failures >= self.tries.attempts or spent + pause > self.tries.deadline_seconds:
                    raise self.unavailable(error) from error
                logger.info("%s at %s: try %d failed: %s", self.store, self.where, failures, error)
                self.sleep(pause)
            except self.failures as error:
                raise self.refused(error) from error

    def unavailable(self, reason: object) -> StoreUnavailableError:
        """The error for a store that does not answer."""
        return StoreUnavailableError(
            f"{self.store} at {self.where} cannot be reached ({_first_line(reason)}); "
            "start it, or correct its URL, and try again"
        )

    def refused(self, reason: object) -> StorageError:
        """The error for a store that answers, and refuses."""
        if any(sign in str(reason) for sign in self.signs_of_no_room):
            return full(
                f"{self.store} at {self.where} has no room ({_first_line(reason)}); give it more, then try again"
            )
        return StorageError(
            f"{self.store} at {self.where} refused ({_first_line(reason)}); see its own log, then try again"
        )


def _first_line(reason: object) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[0][:MAX_REASON] if lines else type(reason).__name__


def full(message: str) -> StorageError:
    """The error of a store without room."""
    error = StorageError(message)
    error.is_full = True
    return error
