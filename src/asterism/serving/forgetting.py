"""Forgetting a user: erased everywhere, and nothing comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
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
from asterism.stores.users import Forgotten, Users, digest_of, those_meant

logger = logging.getLogger(__name__)

_SETTLE_SECONDS: Final = 0.5
_FOLLOW_SECONDS: Final = 2.0
#: Of before a forget-me, by the clock of a gateway that ended before it heard of it.
_APART_SECONDS: Final = 10


class Erased(NamedTuple):
    """What was erased; None where that is left to a store that cannot count it."""

    profile: bool  # attributes or behaviours
    events: int | None
    exposures: int


class Forgetting:
    """Erases users wherever this process reaches; for one event loop.

    The order makes it safe to die anywhere between: the database first, then the durable record in the log, from
    which a restart goes on. Whoever follows the bus erases on reading the record; the record is erased once all have.
    Other gateways follow the database, and erase what they hold. States that gateways share are deleted before the
    database tells of it, so that nobody reads them again afterwards, and once more behind the record.
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
        forgotten: Forgotten,
        clock: Clock,
    ) -> None:
        """`forgotten` are those without whom the `earlier` events were read."""
        self._users = users
        self._bus = bus
        self._exposures = exposures
        self._hot = hot
        self._recommender = recommender
        self._engine = engine
        self._earlier = earlier
        self._clock = clock
        self._before = forgotten.at_seconds  # of whom an earlier life of this process may have left something
        self._heard = forgotten.number  # of the last change in the database that is dealt with
        self._told: set[str] = set()  # digests that engines were told in this round, and are to be told again
        self._to_tell: set[str] = set()  # those of the round before

    async def forget(self, user_id: str) -> Erased:
        """Erase a user, known or not; raises `StorageError`, and then the same call does the rest."""
        return await asyncio.shield(self._forget(user_id))  # a client who leaves must not leave it half done

    async def _forget(self, user_id: str) -> Erased:
        now, digest = int(self._clock.now()), digest_of(user_id)
        if not self._hot.is_local:
            await self._hot.forget(Visitor(user_id=user_id))
        had_profile = await asyncio.to_thread(self._users.forget, user_id, now)
        self._earlier.forget(user_id)
        events = await asyncio.wrap_future(self._bus.forget(Forget(user_id, now)))
        await self._hot.forget(Visitor(user_id=user_id))
        self._recommender.forget([user_id])
        exposures = await asyncio.wrap_future(self._exposures.forget({digest: int(self._clock.now())}))
        await self._tell_engines({digest})
        return Erased(had_profile, events if isinstance(events, int) else None, exposures)

    async def follow(self) -> None:
        """Do what is left, and what other gateways were told, until cancelled."""
        await self._tried(self._finish)
        is_shared = not isinstance(self._bus, LocalEventBus)
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS if is_shared else _SETTLE_SECONDS)
            await self._tried(self._tell_engines_again)
            await self._tried(self.catch_up if is_shared else self._settle)

    async def catch_up(self) -> None:
        """Erase here whom other gateways forgot; raises `StorageError`, and then the next call does the rest."""
        if self._before:
            await self._erase_of_before()
        fresh = await asyncio.to_thread(self._users.forgotten, self._heard)
        if fresh.at_seconds:
            await self._erase_here(fresh.at_seconds)
        self._heard = fresh.number

    async def _erase_of_before(self) -> None:
        """What was recorded since may be of who came back; engines may be processes that went on."""
        until = {digest: at + _APART_SECONDS for digest, at in self._before.items()}
        await asyncio.wrap_future(self._exposures.forget(until))
        await self._tell_engines(set(self._before))
        self._before = {}

    async def _erase_here(self, forgotten_at: Mapping[str, int]) -> None:
        """What is held in memory, pasts, and once more what was made of these meanwhile; then what was recorded."""
        held = {*self._hot.states.users_held(), *self._recommender.users_held()}
        meant = await asyncio.to_thread(those_meant, forgotten_at, held)
        self._drop(meant)
        for user_id in await asyncio.to_thread(those_meant, forgotten_at, self._earlier.users()):
            self._earlier.forget(user_id)
            meant.add(user_id)
        self._drop(meant)
        now = int(self._clock.now())  # all that is recorded here, whatever clock said when it was to be forgotten
        await asyncio.wrap_future(self._exposures.forget({digest: max(at, now) for digest, at in forgotten_at.items()}))
        await self._tell_engines(set(forgotten_at))

    def _drop(self, user_ids: set[str]) -> None:
        self._hot.states.let_go(user_ids)
        self._recommender.forget(user_ids)

    async def _tell_engines(self, digests: set[str]) -> None:
        self._told |= digests
        await self._engine.forget(list(digests))

    async def _tell_engines_again(self) -> None:
        """A round after they were told: a question under way may have brought them what they had forgotten."""
        again, self._to_tell, self._told = self._to_tell, self._told, set()
        if again:
            await self._engine.forget(list(again))

    async def _finish(self) -> None:
        """What a crash may have left of those whose record is in the log."""
        if isinstance(self._bus, LocalEventBus):
            left = {digest_of(one.user_id): one.timestamp for one in self._bus.forgets()}
            if left:
                await asyncio.wrap_future(self._exposures.forget(left))

    async def _settle(self) -> None:
        if isinstance(self._bus, LocalEventBus) and self._bus.forgets():
            await asyncio.wrap_future(await asyncio.to_thread(self._bus.settle))

    async def _tried(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except AsterismError as error:
            logger.warning("who was forgotten is not erased everywhere yet, and will be tried again: %s", error)
