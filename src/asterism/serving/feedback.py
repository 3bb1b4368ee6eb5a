"""The write path: checked, then durable, then heard; an acknowledged event is never lost and counts once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asterism.core.clock import Clock
from asterism.core.errors import RequestError, UnknownIdError
from asterism.serving.hot_state import HotState
from asterism.stores.catalogue import Catalogue
from asterism.stores.event_bus import EventBus
from asterism.stores.event_log import Event

_MAX_CLOCK_AHEAD_SECONDS = 86_400  # how far a client's clock may run ahead of ours


class FeedbackIntake:
    """Takes feedback in; for one event loop."""

    def __init__(self, *, bus: EventBus, hot: HotState, catalogue: Catalogue, clock: Clock) -> None:
        self._bus = bus
        self._hot = hot
        self._catalogue = catalogue
        self._clock = clock

    async def accept(self, events: Sequence[Event]) -> list[bool]:
        """True for each event that was new, False for one whose id was accepted before; all or none.

        Raises `UnknownIdError` for an item outside the catalogue, `RequestError` for an event of
        nobody or of the future, `StorageError` or `OverloadedError` when it cannot be made durable.
        """
        self._check(events)
        known = await asyncio.to_thread(self._catalogue.many, [event.item_id for event in events])
        for event in events:
            if event.item_id not in known:
                raise UnknownIdError(f"item {event.item_id!r} is not in the catalogue; nothing of this was accepted")
        return await asyncio.shield(self._commit(events))  # a client who leaves must not part log and state

    def _check(self, events: Sequence[Event]) -> None:
        latest = self._clock.now() + _MAX_CLOCK_AHEAD_SECONDS
        for event in events:
            if event.user_id is None and event.session_id is None:
                raise RequestError(f"event {event.event_id!r} needs a `user_id` or a `session_id`")
            if event.timestamp > latest:
                raise RequestError(
                    f"event {event.event_id!r} has timestamp {event.timestamp}, which lies in the future; "
                    "give Unix seconds, not milliseconds"
                )

    async def _commit(self, events: Sequence[Event]) -> list[bool]:
        receipts = await asyncio.wrap_future(self._bus.publish(events))
        await self._hot.take_in(events, receipts)
        return [one.is_new for one in receipts]
