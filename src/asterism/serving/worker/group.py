"""One group of consumers in a thread of its own: it goes on whatever happens to the others."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from asterism.core.errors import AsterismError, MissingDependencyError, StorageError
from asterism.serving.worker.batches import Handler, deal_with
from asterism.stores.event_bus import Consumer

logger = logging.getLogger(__name__)

_drawn = random.Random()  # of our own: what others draw from the global one stays what they seeded

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
_FEW: Final = 4  # events of a batch, above which the next one is given time to become larger
_DOUBT_SECONDS: Final = 15.0  # that nothing failed without a batch proves little: the bus may not have given it yet


class GroupState(StrEnum):
    """How a group is."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"  # its store failed; it tries again
    OFF = "off"  # a package is missing
    STOPPED = "stopped"


class Group:
    """Hands every event on the bus to a handler, at least once, and commits what it dealt with.

    All is done in the group's thread. After a failure it goes on from what was committed, with pauses that double up
    to half a minute; the handler stays open, as its stores find their servers again by themselves.
    The attributes tell how it goes, and may be read from any thread.
    """

    def __init__(
        self,
        name: str,
        open_consumer: Callable[[], Consumer],
        open_handler: Callable[[], Handler],
        *,
        batch: int = 500,
        poll_seconds: float = 0.2,
        gather_seconds: float = 0.0,
        longest_gather_seconds: float | None = None,
    ) -> None:
        """After a batch that was not full, `gather_seconds` go by: some stores take few large batches more gladly.

        Where events come so fast that it held more than a few, more time goes by, `longest_gather_seconds` at most.
        """
        self.name = name
        self.state = GroupState.STARTING
        self.handled = 0  # events
        self.buried = 0
        self.failures = 0  # in a row
        self.last_error: str | None = None
        self.lag = 0  # events on the bus behind what it got
        self.handler: Handler | None = None  # once it could be opened
        self._open_consumer = open_consumer
        self._open_handler = open_handler
        self._batch = batch
        self._poll_seconds = poll_seconds
        self._gather_seconds = gather_seconds
        self._longest_gather_seconds = max(gather_seconds, longest_gather_seconds or 0.0)
        self._doubted_until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"group-{name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand, commit, and end; returns at once."""
        self._stop.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set() and self.state != GroupState.OFF:
            try:
                self._serve()
            except MissingDependencyError as error:
                self.state, self.last_error = GroupState.OFF, str(error)
                logger.warning("worker group %s is off: %s", self.name, error)
            except AsterismError as error:
                self._rest(error)
            except Exception as error:  # the group must outlive its own mistakes, and say them
                logger.exception("worker group %s failed", self.name)
                self._rest(error)
        if self.handler is not None:
            self.handler.close()
        if self.state != GroupState.OFF:
            self.state = GroupState.STOPPED

    def _serve(self) -> None:
        if self.handler is None:
            self.handler = self._open_handler()
        with contextlib.closing(self._open_consumer()) as consumer:
            while not self._stop.is_set():
                if self._step(consumer, self.handler) or time.monotonic() > self._doubted_until:
                    self._is_well()
            if self._gather_seconds:
                self._step(consumer, self.handler)  # what came while it gathered

    def _step(self, consumer: Consumer, handler: Handler) -> bool:
        """Deal with what there is; whether there was anything."""
        batch = consumer.poll(self._batch, 0.0 if handler.has_more else self._poll_seconds)
        behind = consumer.lag() if len(batch) == self._batch else 0
        self.lag = len(batch) + behind
        if batch:
            tally = deal_with(consumer, batch, handler, self._stop_or_sleep)
            consumer.commit()
            self.handled += tally.handled
            self.buried += tally.buried
            self.lag = behind
            if len(batch) < self._batch and not handler.has_more:
                self._stop.wait(min(self._longest_gather_seconds, self._gather_seconds * max(1.0, len(batch) / _FEW)))
        elif handler.has_more:
            handler(())
        self.lag = behind
        return bool(batch)

    def _is_well(self) -> None:
        if self.failures:
            logger.warning("worker group %s goes on", self.name)
        self.state, self.failures, self.last_error = GroupState.RUNNING, 0, None

    def _rest(self, error: Exception) -> None:
        self.failures += 1
        self._doubted_until = time.monotonic() + _DOUBT_SECONDS
        self.state, self.last_error = GroupState.PAUSED, str(error)
        seconds = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (self.failures - 1))
        level = logging.WARNING if self.failures == 1 or not isinstance(error, StorageError) else logging.INFO
        logger.log(level, "worker group %s waits, and tries again: %s", self.name, error)
        self._stop.wait(seconds * _drawn.uniform(0.5, 1.0))

    def _stop_or_sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)
