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
        self._heard = forgotten.number  # of the last change in the database of which memory holds nothing
        # Until when exposures of digests are to be blanked: an earlier life of this process may have left some, of
        # users who came back, and engines may be processes that went on. What is left here when this one ends is done
        # by the next. With a log of this process alone that is done by `_finish`, and nobody else forgets.
        before = {} if isinstance(bus, LocalEventBus) else forgotten.at_seconds
        self._to_blank = {digest: at + _APART_SECONDS for digest, at in before.items()}
        self._to_tell = set(self._to_blank)  # digests of which engines have not heard
        self._told: set[str] = set()  # those of which they heard since the last round
        self._to_tell_again: set[str] = set()  # and in the round before

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
        self._told.add(digest)
        await self._engine.forget([digest])
        return Erased(had_profile, events if isinstance(events, int) else None, exposures)

    async def follow(self) -> None:
        """Do what is left, and what other gateways were told, until cancelled.

        Whoever was forgotten is let go of in memory, whatever the exposure log or an engine takes meanwhile.
        """
        await self._tried(self._finish)
        if isinstance(self._bus, LocalEventBus):
            await asyncio.gather(self._each(_SETTLE_SECONDS, self._settle), self._each(_SETTLE_SECONDS, self._tell))
        else:
            await asyncio.gather(*(self._each(_FOLLOW_SECONDS, one) for one in (self._hear, self._blank, self._tell)))

    async def catch_up(self) -> None:
        """Erase here whom other gateways forgot; raises `StorageError`, and then the next call does the rest."""
        await self._hear()
        await self._blank()
        await self._tell()

    async def _each(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._tried(action)

    async def _hear(self) -> None:
        """Let go of whom others forgot: of what is held, of pasts, and of what was made of these meanwhile."""
        fresh = await asyncio.to_thread(self._users.forgotten, self._heard)
        if fresh.at_seconds:
            held = {*self._hot.states.users_held(), *self._recommender.users_held()}
            meant = await asyncio.to_thread(those_meant, fresh.at_seconds, held)
            self._drop(meant)
            for user_id in await asyncio.to_thread(those_meant, fresh.at_seconds, self._earlier.users()):
                self._earlier.forget(user_id)
                meant.add(user_id)
            self._drop(meant)
            now = int(self._clock.now())  # all that is recorded here, whatever clock said when it was to be forgotten
            self._to_blank |= {digest: max(at, now) for digest, at in fresh.at_seconds.items()}
            self._to_tell |= fresh.at_seconds.keys()
        self._heard = fresh.number

    async def _blank(self) -> None:
        """What was recorded of them; what fails is tried again."""
        until = dict(self._to_blank)
        if until:
            await asyncio.wrap_future(self._exposures.forget(until))
            self._to_blank = {one: at for one, at in self._to_blank.items() if until.get(one) != at}

    async def _tell(self) -> None:
        """Engines, and once more a round later: a question under way may have brought them what they had forgotten."""
        new, again = self._to_tell, self._to_tell_again
        self._to_tell, self._told, self._to_tell_again = set(), new, self._told
        if new or again:
            await self._engine.forget(list(new | again))

    def _drop(self, user_ids: set[str]) -> None:
        self._hot.states.let_go(user_ids)
        self._recommender.forget(user_ids)

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
        except Exception:  # whatever it is, who is forgotten later must be heard of
            logger.exception("who was forgotten is not erased everywhere yet, and will be tried again")
