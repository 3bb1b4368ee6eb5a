"""Reads of a store that is elsewhere, gathered: who asks while others wait for their answers is asked for together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from asterism.core.errors import StorageError

K = TypeVar("K")
V = TypeVar("V")

#: Questions under way at once; more would only wake more threads.
_LANES: Final = 2
_MOST_AT_ONCE: Final = 256


class GatheredReads(Generic[K, V]):
    """Reads by key, for one event loop; a read never joins one that was sent before it was asked for.

    With nobody else about it is sent at the end of this turn of the loop. A key that several ask for is read once.
    """

    def __init__(
        self,
        read_many: Callable[[Sequence[K]], Awaitable[Sequence[V | StorageError] | None]],
        patience_seconds: float,
    ) -> None:
        """`read_many` gives what stands under each key, or why it cannot be read; None where nobody answers."""
        self._read_many = read_many
        self._patience_seconds = patience_seconds  # of who asks, in the line and under way together
        self._waiting: dict[K, list[asyncio.Future[V | StorageError | None]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_called = False

    async def of(self, key: K) -> V | None:
        """What stands under a key; None where nobody answers. Raises `StorageError` where this one cannot be read."""
        asked: asyncio.Future[V | StorageError | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [asked]
            self._send_soon()
        else:
            waiting.append(asked)
        try:
            async with asyncio.timeout(self._patience_seconds):
                found = await asked
        except TimeoutError:
            return None
        if isinstance(found, StorageError):
            raise found
        return found

    def _send_soon(self) -> None:
        if not self._is_called and len(self._under_way) < _LANES:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_called = False
        for key in [key for key, waiting in self._waiting.items() if all(one.done() for one in waiting)]:
            del self._waiting[key]  # they have gone
        keys = list(self._waiting)[:_MOST_AT_ONCE]
        if keys:
            task = asyncio.create_task(self._ask({key: self._waiting.pop(key) for key in keys}))
            self._under_way.add(task)
            task.add_done_callback(self._is_back)
        if self._waiting:
            self._send_soon()

    def _is_back(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting:
            self._send_soon()

    async def _ask(self, asked: dict[K, list[asyncio.Future[V | StorageError | None]]]) -> None:
        found: Sequence[V | StorageError | None] | None = None
        try:
            found = await self._read_many(list(asked))
        finally:  # whatever happened, nobody waits for ever
            for place, waiting in enumerate(asked.values()):
                for one in waiting:
                    if not one.done():  # who asked may have gone
                        one.set_result(None if found is None else found[place])
