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
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from asterism.core.errors import OverloadedError, StorageError
from asterism.stores.event_log import Event, Forget
from asterism.stores.user_state import Offset

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event and where it stood; `event` is None where the bytes are no event, and `raw` holds them.

    `forget` is a user to be forgotten, in whose place among the events all of theirs came before.
    """

    event: Event | None
    offset: Offset
    raw: bytes
    forget: Forget | None = None
    published_at: float | None = None  # Unix seconds, by the clock of who published it; None where the bus cannot tell


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

    def forget(self, forget: Forget) -> Future[Any]:
        """Tell all who follow to forget a user; done when that is durable, and fails with `StorageError`."""
        ...

    def consumer(self, group: str) -> Consumer:
        """A member of a group: what one member gets, no other does."""
        ...

    def close(self) -> None:
        """Write what waits, then let go of everything; who publishes or forgets afterwards gets a `StorageError`."""
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
    forget: Callable[[Forget, Offset], object] | None = None,
    count: int = 500,
    timeout_seconds: float = 1.0,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Hand every event to `handle` and who wants to be forgotten to `forget`, and commit after each batch.

    Returns how many were handled.

    What is no event, or fails three times for a reason of its own, is buried and the rest goes on. A
    store that is down fails for everyone: its `StorageError` ends this, nothing of the batch is
    committed, and it comes again.
    """
    handled = 0
    while not until():
        batch = consumer.poll(count, timeout_seconds)
        for delivery in batch:
            if delivery.event is not None:
                handled += _deal_with(
                    consumer, delivery, delivery.event.event_id, partial(handle, delivery.event), pause
                )
            elif delivery.forget is None:
                consumer.bury(delivery, "the bytes are no event")
            elif forget is not None:
                handled += _deal_with(consumer, delivery, "to forget", partial(forget, delivery.forget), pause)
        if batch:
            consumer.commit()
    return handled


def _deal_with(
    consumer: Consumer,
    delivery: Delivery,
    name: str,
    handle: Callable[[Offset], object],
    pause: Callable[[float], None],
) -> bool:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            handle(delivery.offset)
            return True
        except (StorageError, OverloadedError):
            raise
        except Exception as error:
            logger.warning("event %s failed, try %d of %d: %s", name, attempt, _ATTEMPTS, error)
            reason = f"{type(error).__name__}: {error}"
            if attempt < _ATTEMPTS:
                pause(0.05 * attempt)
    consumer.bury(delivery, reason)
    return False
