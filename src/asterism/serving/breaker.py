"""An engine behind a circuit breaker: while it hangs, the next rung of the ladder answers at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from asterism.core.bundle import Bundle
from asterism.core.errors import AbandonedError, ModelError, OverloadedError
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine.status import EngineStatus
from asterism.serving.ports import EngineAnswer, EngineHandle, EngineRequest
from asterism.stores.breaker import BreakerSettings, BreakerState, CircuitBreaker

_LEAST_CALLS: Final = 20
_OPEN_SECONDS: Final = 0.5


class GuardedEngine:
    """Implements `EngineHandle` over another; slow is what takes `slow_seconds`, after which nobody waits any more.

    An engine that turns a request away says so at once, which is what a breaker is for: it counts for nothing.
    """

    def __init__(
        self, engine: EngineHandle, slow_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        settings = BreakerSettings(least_calls=_LEAST_CALLS, slow_seconds=slow_seconds, open_seconds=_OPEN_SECONDS)
        self._breaker = CircuitBreaker(settings, monotonic)
        self.semantic_id: Callable[[str], SemanticId | None] = engine.semantic_id  # asked for each item of an answer

    @property
    def inner(self) -> EngineHandle:
        """The engine itself."""
        return self._engine

    @property
    def breaker_state(self) -> BreakerState:
        """Whether the engine is asked at all."""
        return self._breaker.state

    @property
    def bundle_version(self) -> str:
        """See `EngineClient.bundle_version`."""
        return self._engine.bundle_version

    @property
    def status(self) -> EngineStatus:
        """See `EngineHandle.status`."""
        return self._engine.status

    def start(self) -> None:
        """See `EngineHandle.start`."""
        self._engine.start()

    async def stop(self) -> None:
        """See `EngineHandle.stop`."""
        await self._engine.stop()

    async def wait_ready(self) -> None:
        """See `EngineHandle.wait_ready`."""
        await self._engine.wait_ready()

    async def forget(self, digests: Sequence[str]) -> None:
        """See `EngineHandle.forget`."""
        await self.inner.forget(digests)

    async def swap(self, bundle: Bundle) -> None:
        """See `EngineHandle.swap`."""
        await self._engine.swap(bundle)

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """See `EngineHandle.recommend`; raises `ModelError` at once while the breaker is open."""
        call = self._breaker.begin()
        if call is None:
            raise ModelError("the engine failed or was slow too often just now; it is asked again in a moment")
        try:
            answer = await self._engine.recommend(request)
        except (OverloadedError, AbandonedError, asyncio.CancelledError):
            self._breaker.abandon(call)
            raise
        except BaseException:
            self._breaker.end(call, failed=True)
            raise
        self._breaker.end(call, failed=False)
        return answer
