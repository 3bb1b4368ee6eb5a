"""A batch of deliveries is handled as a whole; where that fails, what cannot be dealt with is found and buried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final, NamedTuple, Protocol

from asterism.core.errors import OverloadedError, StorageError, StoreUnavailableError
from asterism.stores.event_bus import Consumer, Delivery
from asterism.stores.event_log import Event
from asterism.stores.user_state import Offset

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 3


class Arrival(NamedTuple):
    """An event that the bus delivered, and where and when it was published."""

    event: Event
    offset: Offset
    published_at: float | None = None  # see `Delivery`


class Tally(NamedTuple):
    """What became of a batch."""

    handled: int
    buried: int


class Handler(Protocol):
    """What a group does with what the bus brings; for one thread."""

    @property
    def has_more(self) -> bool:
        """Whether there is work left that needs nothing from the bus: then it is called again, with an empty batch."""
        ...

    def __call__(self, batch: Sequence[Arrival]) -> None:
        """Deal with a batch that may have come before; raises `StorageError` where a store is down."""
        ...

    def forget(self, user_id: str) -> None:
        """Erase what was written of a user's events, all of which came before."""
        ...

    def close(self) -> None:
        """Let go of the stores."""
        ...


def deal_with(
    consumer: Consumer,
    batch: Sequence[Delivery],
    handler: Handler,
    pause: Callable[[float], None] = time.sleep,
) -> Tally:
    """Hand a batch to a handler; bury what is no event, and what fails by itself while the store takes others.

    Raises `StorageError` or `OverloadedError` where the store takes nothing or has no room; then the batch has to come
    again.
    """
    handled = buried = 0
    for kind, run in groupby(batch, _kind):
        some = list(run)
        if kind == "event":
            poison = _dealt_with(_arrivals(some), handler, pause)
            by_offset = {one.offset: one for one in some}
            for arrival, reason in poison:
                consumer.bury(by_offset[arrival.offset], reason)
            handled, buried = handled + len(some) - len(poison), buried + len(poison)
            continue
        for one in some:
            if one.forget is not None:
                handler.forget(one.forget.user_id)
            else:
                consumer.bury(one, "the bytes are no event")
                buried += 1
    return Tally(handled, buried)


def _arrivals(some: Sequence[Delivery]) -> list[Arrival]:
    return [Arrival(one.event, one.offset, one.published_at) for one in some if one.event]


def _kind(delivery: Delivery) -> str:
    return "event" if delivery.event is not None else "other"


def _dealt_with(good: Sequence[Arrival], handler: Handler, pause: Callable[[float], None]) -> list[tuple[Arrival, str]]:
    """Hand all over at once, or else each by itself; returns those that cannot be dealt with, and why."""
    try:
        handler(good)
    except Exception as error:
        if _is_nobodys(error):
            raise
        logger.warning("a batch of %d events failed, so each is tried by itself: %s", len(good), error)
        return _poison(good, handler, pause)
    return []


def _poison(good: Sequence[Arrival], handler: Handler, pause: Callable[[float], None]) -> list[tuple[Arrival, str]]:
    """Events that fail by themselves, and why. Raises what a store says that refuses every one of them."""
    poison: list[tuple[Arrival, str]] = []
    refusal: StorageError | None = None
    refused = 0
    for arrival in good:
        error = _tried(arrival, handler, pause)
        if isinstance(error, StorageError):
            refused, refusal = refused + 1, error
        if error is not None:
            poison.append((arrival, f"{type(error).__name__}: {error}"))
    if refusal is not None and refused == len(good):
        raise refusal  # a full disk, say: that is not the events' fault
    return poison


def _is_nobodys(error: Exception) -> bool:
    """Whether it is no event's fault: a full store takes one now and then, and what it refuses comes again."""
    return isinstance(error, StoreUnavailableError | OverloadedError) or (
        isinstance(error, StorageError) and error.is_full
    )


def _tried(arrival: Arrival, handler: Handler, pause: Callable[[float], None]) -> Exception | None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            handler([arrival])
            return None
        except Exception as error:
            if _is_nobodys(error):
                raise
            if isinstance(error, StorageError):
                return error
            failure = error
            if attempt < _ATTEMPTS:
                pause(0.05 * attempt)
    return failure
