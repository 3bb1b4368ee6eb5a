"""The write path: checked, then durable, then heard; an acknowledged event is never lost and counts once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future

from asterism.core.clock import Clock
from asterism.core.errors import RequestError, UnknownIdError
from asterism.serving.hot_state import HotState
from asterism.stores.event_bus import EventBus, Receipt
from asterism.stores.event_log import Event
from asterism.stores.remembered_catalogue import RememberedCatalogue
from asterism.stores.user_state import Visitor

logger = logging.getLogger(__name__)

_MAX_CLOCK_AHEAD_SECONDS = 86_400  # how far a client's clock may run ahead of ours


class FeedbackIntake:
    """Takes feedback in; for one event loop.

    It needs the bus alone: what cannot be looked up is taken for an item, an id not remembered for a new one, and
    what the hot state does not hear now the worker brings later.
    """

    def __init__(self, *, bus: EventBus, hot: HotState, catalogue: RememberedCatalogue, clock: Clock) -> None:
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
        unmet = [event.item_id for event in events if not self._catalogue.has_met(event.item_id)]
        unknown = await asyncio.to_thread(self._catalogue.unknown, unmet) if unmet else []
        if unknown:
            raise UnknownIdError(f"item {unknown[0]!r} is not in the catalogue; nothing of this was accepted")
        if self._bus.knows_ids and self._hot.is_local:
            return await self._commit_here(events)
        return await asyncio.shield(self._commit(events))  # a client who leaves must not part log and state

    def _check(self, events: Sequence[Event]) -> None:
        latest = self._clock.now() + _MAX_CLOCK_AHEAD_SECONDS
        for place, event in enumerate(events):
            if event.user_id is None and event.session_id is None:
                raise RequestError(
                    f"{_named(place, events)} needs a `user_id` or a `session_id`; nothing of this was accepted"
                )
            if event.timestamp > latest:
                raise RequestError(
                    f"{_named(place, events)} has `timestamp` {event.timestamp}, which lies in the future; "
                    "give Unix seconds, not milliseconds; nothing of this was accepted"
                )

    def _commit_here(self, events: Sequence[Event]) -> asyncio.Future[list[bool]]:
        """As `_commit`, with one future and no task: log and state stay together whoever waits for it."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[list[bool]] = loop.create_future()

        def hear(written: Future[list[Receipt]]) -> None:
            try:
                receipts = written.result()
                self._hot.take_in_here(events, receipts)
            except Exception as error:
                if told.done():  # whoever sent it has gone
                    logger.warning("feedback that nobody waits for any more was not taken in: %s", error)
                else:
                    told.set_exception(error.with_traceback(None))  # which would hold this frame, and so the future
                return
            if not told.done():
                told.set_result([one.is_new for one in receipts])

        def wake(written: Future[list[Receipt]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and everything with it
                loop.call_soon_threadsafe(hear, written)

        self._bus.publish(events).add_done_callback(wake)
        return told

    async def _commit(self, events: Sequence[Event]) -> list[bool]:
        if self._bus.knows_ids:
            receipts = await asyncio.wrap_future(self._bus.publish(events))
            await self._hot.take_in(events, receipts)
            return [one.is_new for one in receipts]
        known = await self._hot.known_ids(events)
        fresh: dict[tuple[Visitor | None, str], Event] = {}
        verdicts = []
        for event, is_known in zip(events, known, strict=True):
            name = (Visitor(event.user_id, event.session_id).key, event.event_id)
            verdicts.append(not is_known and name not in fresh)
            if verdicts[-1]:
                fresh[name] = event
        published = list(fresh.values())
        receipts = await asyncio.wrap_future(self._bus.publish(published))
        await self._hot.take_in(published, receipts)
        return verdicts


def _named(place: int, events: Sequence[Event]) -> str:
    """Which one of a request's; not by its id, which may be one that we made."""
    return f"`events.{place}`" if len(events) > 1 else "the event"
