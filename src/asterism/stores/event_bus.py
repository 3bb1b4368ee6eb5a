"""The event bus: feedback on its way from who accepted it to all who act on it, at least once and in order.

What is published is durable when its future is done. A group of consumers gets every event; it commits
how far it came, and after a crash goes on from there, so that the last events may come twice. Each
delivery has an offset: who keeps the last one beside what it changed takes every event once
(`UserStates.apply`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Protocol

from asterism.core.errors import OverloadedError, StorageError
from asterism.stores.event_log import Event
from asterism.stores.user_state import Offset

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event and where it stood; `event` is None where the bytes are no event, and `raw` holds them."""

    event: Event | None
    offset: Offset
    raw: bytes


class Receipt(NamedTuple):
    """What became of a published event."""

    is_new: bool  # False where the bus had its id already
    offset: Offset | None  # where it stands, if it is new


class EventBus(Protocol):
    """Takes events from any thread; those of one visitor keep their order."""

    #: Whether it takes each `event_id` once, for ever.
    knows_ids: ClassVar[bool]

    def publish(self, events: Sequence[Event]) -> Future[list[Receipt]]:
        """Done when all are durable; fails with `StorageError`. Raises `OverloadedError` when too many wait."""
        ...

    def consumer(self, group: str) -> Consumer:
        """A member of a group: what one member gets, no other does."""
        ...

    def close(self) -> None:
        """Write what waits, then let go of everything."""
        ...


class Consumer(Protocol):
    """Reads for one group; for one thread."""

    def poll(self, count: int, timeout_seconds: float) -> list[Delivery]:
        """Up to `count` deliveries not given yet, as soon as there are any; none after the timeout."""
        ...

    def commit(self) -> None:
        """Make durable that all given so far was dealt with; raises `StoreUnavailableError`."""
        ...

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Put a delivery that cannot be dealt with where people find it; durable on return."""
        ...

    def lag(self) -> int:
        """About how many events wait behind those given so far."""
        ...

    def close(self) -> None:
        """Leave the group; what was not committed is given again."""
        ...


_ATTEMPTS: Final = 3


def consume(
    consumer: Consumer,
    handle: Callable[[Event, Offset], object],
    *,
    until: Callable[[], bool],
    count: int = 500,
    timeout_seconds: float = 1.0,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Hand every event to `handle`, commit after each batch; returns how many were handled.

    What is no event, or fails three times for a reason of its own, is buried and the rest goes on. A
    store that is down fails for everyone: its `StorageError` ends this, nothing of the batch is
    committed, and it comes again.
    """
    handled = 0
    while not until():
        batch = consumer.poll(count, timeout_seconds)
        for delivery in batch:
            if delivery.event is None:
                consumer.bury(delivery, "the bytes are no event")
            else:
                handled += _deal_with(consumer, delivery, delivery.event, handle, pause)
        if batch:
            consumer.commit()
    return handled


def _deal_with(
    consumer: Consumer,
    delivery: Delivery,
    event: Event,
    handle: Callable[[Event, Offset], object],
    pause: Callable[[float], None],
) -> bool:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            handle(event, delivery.offset)
            return True
        except (StorageError, OverloadedError):
            raise
        except Exception as error:
            logger.warning("event %s failed, try %d of %d: %s", event.event_id, attempt, _ATTEMPTS, error)
            reason = f"{type(error).__name__}: {error}"
            if attempt < _ATTEMPTS:
                pause(0.05 * attempt)
    consumer.bury(delivery, reason)
    return False
