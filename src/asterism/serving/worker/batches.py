"""A batch of deliveries is handled as a whole; where that fails, what cannot be dealt with is found and buried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from asterism.core.errors import OverloadedError, StorageError, StoreUnavailableError
from asterism.stores.event_bus import Consumer, Delivery
from asterism.stores.event_log import Event
from asterism.stores.user_state import Offset

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 3


class Arrival(NamedTuple):
    """An event that the bus delivered, and where it stood."""

    event: Event
    offset: Offset


class Tally(NamedTuple):
    """What became of a batch."""

    handled: int
    buried: int


BatchHandler = Callable[[Sequence[Arrival]], None]


def deal_with(
    consumer: Consumer,
    batch: Sequence[Delivery],
    handle: BatchHandler,
    pause: Callable[[float], None] = time.sleep,
) -> Tally:
    """Hand a batch to `handle`; bury what is no event, and what fails by itself while the store takes others.

    Raises `StorageError` or `OverloadedError` where the store takes nothing; then the batch has to come again.
    """
    good: list[Arrival] = []
    buried = 0
    for one in batch:
        if one.event is None:
            consumer.bury(one, "the bytes are no event")
            buried += 1
        else:
            good.append(Arrival(one.event, one.offset))
    if not good:
        return Tally(0, buried)
    try:
        handle(good)
    except (StoreUnavailableError, OverloadedError):
        raise
    except Exception as error:
        logger.warning("a batch of %d events failed, so each is tried by itself: %s", len(good), error)
        poison = _poison(good, handle, pause)
        by_offset = {one.offset: one for one in batch}
        for arrival, reason in poison:
            consumer.bury(by_offset[arrival.offset], reason)
        return Tally(len(good) - len(poison), buried + len(poison))
    return Tally(len(good), buried)


def _poison(good: Sequence[Arrival], handle: BatchHandler, pause: Callable[[float], None]) -> list[tuple[Arrival, str]]:
    """Events that fail by themselves, and why. Raises what a store says that refuses every one of them."""
    poison: list[tuple[Arrival, str]] = []
    refusal: StorageError | None = None
    refused = 0
    for arrival in good:
        error = _tried(arrival, handle, pause)
        if isinstance(error, StorageError):
            refused, refusal = refused + 1, error
        if error is not None:
            poison.append((arrival, f"{type(error).__name__}: {error}"))
    if refusal is not None and refused == len(good):
        raise refusal  # a full disk, say: that is not the events' fault
    return poison


def _tried(arrival: Arrival, handle: BatchHandler, pause: Callable[[float], None]) -> Exception | None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            handle([arrival])
            return None
        except (StoreUnavailableError, OverloadedError):
            raise
        except StorageError as error:
            return error
        except Exception as error:
            failure = error
            if attempt < _ATTEMPTS:
                pause(0.05 * attempt)
    return failure
