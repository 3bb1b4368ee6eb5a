"""Forgetting a user: erased everywhere, and nothing comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from asterism.core.clock import Clock
from asterism.core.errors import AsterismError
from asterism.serving.features.earlier import EarlierEvents
from asterism.serving.hot_state import HotState
from asterism.serving.ports import EngineHandle
from asterism.serving.recommender import Recommender
from asterism.stores.event_bus import EventBus
from asterism.stores.event_log import Forget
from asterism.stores.exposure_log import ExposureLog
from asterism.stores.local_bus import LocalEventBus
from asterism.stores.user_state import Visitor
from asterism.stores.users import Users, digest_of

logger = logging.getLogger(__name__)

_SETTLE_SECONDS: Final = 0.5
_FOLLOW_SECONDS: Final = 5.0


class Erased(NamedTuple):
    """What was erased; None where that is left to a store that cannot count it."""

    profile: bool  # attributes or behaviours
    events: int | None
    exposures: int


class Forgetting:
    """Erases users wherever this process reaches; for one event loop.

    The order makes it safe to die anywhere between: the database first, then the durable record in the log, from
    which a restart goes on. Whoever follows the bus erases on reading the record; the record is erased once all have.
    """

    def __init__(
        self,
        *,
        users: Users,
        bus: EventBus,
        exposures: ExposureLog,
        hot: HotState,
        recommender: Recommender,
        engine: EngineHandle,
        earlier: EarlierEvents,
        clock: Clock,
    ) -> None:
        self._users = users
        self._bus = bus
        self._exposures = exposures
        self._hot = hot
        self._recommender = recommender
        self._engine = engine
        self._earlier = earlier
        self._clock = clock
        self._known: dict[str, int] = {}

    async def forget(self, user_id: str) -> Erased:
        """Erase a user, known or not; raises `StorageError`, and then the same call does the rest."""
        return await asyncio.shield(self._forget(user_id))  # a client who leaves must not leave it half done

    async def _forget(self, user_id: str) -> Erased:
        now = int(self._clock.now())
        had_profile = await asyncio.to_thread(self._users.forget, user_id, now)
        self._earlier.forget(user_id)
        events = await asyncio.wrap_future(self._bus.forget(Forget(user_id, now)))
        await self._hot.forget(Visitor(user_id=user_id))
        self._recommender.forget([user_id])
        await self._engine.forget([digest_of(user_id)])
        exposures = await asyncio.wrap_future(self._exposures.forget({digest_of(user_id): now}))
        return Erased(had_profile, events if isinstance(events, int) else None, exposures)

    async def follow(self) -> None:
        """Do what is left, and what other gateways were told, until cancelled."""
        await self._tried(self._finish)
        while True:
            await asyncio.sleep(_SETTLE_SECONDS if self._hot.is_local else _FOLLOW_SECONDS)
            await self._tried(self._go_on)

    async def _finish(self) -> None:
        """What a crash may have left of those whose record is in the log."""
        if isinstance(self._bus, LocalEventBus):
            left = {digest_of(one.user_id): one.timestamp for one in self._bus.forgets()}
            if left:
                await asyncio.wrap_future(self._exposures.forget(left))

    async def _go_on(self) -> None:
        if isinstance(self._bus, LocalEventBus):
            if self._bus.forgets():
                await asyncio.wrap_future(await asyncio.to_thread(self._bus.settle))
            return
        forgotten = await asyncio.to_thread(self._users.forgotten)
        fresh = {digest: at for digest, at in forgotten.items() if self._known.get(digest) != at}
        if fresh:
            self._earlier.forget_digests(fresh)
            await asyncio.wrap_future(self._exposures.forget(fresh))
            self._known.update(fresh)

    async def _tried(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except AsterismError as error:
            logger.warning("who was forgotten is not erased everywhere yet, and will be tried again: %s", error)
