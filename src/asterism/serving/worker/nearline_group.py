"""The nearline loop as a group of the worker: what the bus brings, on an event loop in a thread beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from uvicorn.loops.auto import auto_loop_factory

from asterism.core.clock import SystemClock
from asterism.core.errors import ModelError
from asterism.serving.ports import EngineHandle
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.nearline import NearlineSlates
from asterism.serving.worker.visitors import Visitors
from asterism.stores.user_state import Visitor

T = TypeVar("T")

_LONGEST_SECONDS: Final = 30.0
_READY_SECONDS: Final = 60.0
_OPEN_SECONDS: Final = 300.0  # a bundle's histories may be long


class Nearline:
    """Implements `Handler`. What waits for a slate is not on the bus any more: after a crash, requests ask instead."""

    def __init__(
        self, open_engine: Callable[[], EngineHandle], open_visitors: Callable[[], Visitors], slate_items: int
    ) -> None:
        self._loop = auto_loop_factory()()  # uvloop's where it is installed
        self._thread = threading.Thread(target=self._loop.run_forever, name="nearline-loop", daemon=True)
        self._thread.start()
        self._slate_items = slate_items
        try:
            self.engine, self._visitors, self.slates = self._on_loop(
                self._open(open_engine, open_visitors), _OPEN_SECONDS
            )
        except BaseException:
            self._end()
            raise

    @property
    def has_more(self) -> bool:
        """See `Handler.has_more`."""
        return len(self.slates.stale) > 0

    def __call__(self, batch: Sequence[Arrival]) -> None:
        """See `Handler`."""
        self.slates.stale.add(batch)
        self._on_loop(self.slates.make_some())

    def forget(self, user_id: str) -> None:
        """See `Handler.forget`."""
        self.slates.stale.forget(Visitor(user_id=user_id))
        self._visitors.forget(user_id)

    def close(self) -> None:
        """See `Handler.close`."""
        self._on_loop(self.engine.stop())
        self._on_loop(self._visitors.close())
        self._end()

    def _end(self) -> None:
        self._on_loop(_let_go())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(
        self, open_engine: Callable[[], EngineHandle], open_visitors: Callable[[], Visitors]
    ) -> tuple[EngineHandle, Visitors, NearlineSlates]:
        engine, visitors = open_engine(), open_visitors()
        engine.start()
        visitors.tell_forgotten(lambda digests: self._on_loop(engine.forget(digests)))
        try:
            await asyncio.wait_for(engine.wait_ready(), _READY_SECONDS)
        except (TimeoutError, ModelError) as error:
            await engine.stop()
            await visitors.close()
            raise ModelError(f"no slate can be made: {str(error) or 'the engine does not answer yet'}") from error
        return engine, visitors, NearlineSlates(engine, visitors, SystemClock(), slate_items=self._slate_items)

    def _on_loop(self, work: Coroutine[Any, Any, T], seconds: float = _LONGEST_SECONDS) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)


async def _let_go() -> None:
    """End what still runs on the loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)
