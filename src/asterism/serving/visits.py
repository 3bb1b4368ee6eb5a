"""What is remembered of who asks, their state and their last slate: in memory, elsewhere, or not to be had just now."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import NamedTuple, TypeVar

from asterism.core.errors import AsterismError
from asterism.serving.hot_state import HotState
from asterism.serving.slate_inputs import keep_slates
from asterism.stores.outages import Outage
from asterism.stores.slates import Slate
from asterism.stores.user_state import NO_STATE, UserState, Visitor

T = TypeVar("T")


class Visit(NamedTuple):
    """Who asks, by their key, and their state."""

    key: Visitor | None
    state: UserState
    is_current: bool = True  # else the store did not answer, and the state is the last one known here


_NOBODY = Visit(None, NO_STATE)


class Visits:
    """Reads states and slates for one event loop; no failure of a store leaves it."""

    def __init__(self, hot: HotState) -> None:
        self._hot = hot
        self._states = Outage("users' states", "what was known of them is used")
        self._slates = Outage("users' slates", "nothing is fallen back on")
        self._writing: set[asyncio.Task[None]] = set()

    async def of(self, visitor: Visitor) -> Visit:
        """The visitor's state now, or the last one that this process knows."""
        return _NOBODY if visitor.key is None else await self.under(visitor.key)

    async def under(self, key: Visitor) -> Visit:
        """The same, by a visitor's key."""
        if self._hot.is_local:
            state = self._states.spared(partial(self._hot.states.get, key))
        else:
            state = await self._hot.read_state(key)
        if state is not None:
            return Visit(key, state)
        with contextlib.suppress(AsterismError):
            return Visit(key, self._hot.states.last_known(key), is_current=False)
        return Visit(key, NO_STATE, is_current=False)

    def at_once(self, key: Visitor) -> Visit | None:
        """As `of`, by a visitor's key and without waiting; None where states are elsewhere, or cannot be read."""
        if not self._hot.is_local:
            return None
        state = self._states.spared(partial(self._hot.states.get, key))
        return None if state is None else Visit(key, state)

    async def slate(self, key: Visitor) -> Slate | None:
        """The last slate under a key, if there is one and it can be read."""
        if self._hot.is_local:
            return self._slates.spared(partial(self._hot.slates.get, key))
        return await self._hot.read_slate(key)

    def keep(self, key: Visitor, slate: Slate) -> None:
        """Remember a slate, soon; one that cannot be written is lost, and one of a visitor forgotten meanwhile too."""
        keeping = partial(self._kept, key, slate)
        if self._hot.is_local:
            self._slates.spared(keeping)
            return
        task = asyncio.ensure_future(self._hot.asked(keeping))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _kept(self, key: Visitor, slate: Slate) -> None:
        for error in keep_slates(self._hot.states, self._hot.slates, [(key, slate)]):
            if error is not None:
                raise error
