"""The engine's end of a conversation: queries become requests of the pool, answers go back as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol

import grpc

from asterism.serving.grpc.message_room import in_messages
from asterism.serving.grpc.outbox import Outbox, WritableStream
from asterism.serving.grpc.proto import model_pb2

_SETTLED_SECONDS: Final = 0.05  # what was sent before the other side heard of the end has come by then
_MOST_UNDER_WAY: Final = 4096  # of one stream, before it is read on

Answer = Callable[[model_pb2.Query], Awaitable[model_pb2.Result]]


class AskingStream(WritableStream, Protocol):
    """A stream that is read as well."""

    async def read(self) -> Any:
        """The next `Asked`, or `grpc.aio.EOF`."""
        ...


class AnsweringStream:
    """One stream from its beginning to its end; for one event loop."""

    def __init__(self, stream: AskingStream, answer: Answer) -> None:
        self._stream = stream
        self._answer = answer
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._ready: list[tuple[int, model_pb2.Result]] = []
        self._unsent = 0
        self._outbox = Outbox(stream, self._gathered, self._note_sent)
        self._room = asyncio.Event()

    async def run(self, draining: asyncio.Event) -> None:
        """Answer until the other side ends, or until all is answered once it was told to drain."""
        writing = asyncio.create_task(self._outbox.run())
        reading = asyncio.create_task(self._read())
        ending = asyncio.create_task(draining.wait())
        try:
            await asyncio.wait({reading, ending, writing}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                await self._settle(reading)
        finally:
            for one in (reading, ending, writing, *self._under_way.values()):
                one.cancel()

    async def _settle(self, reading: asyncio.Task[None]) -> None:
        while not reading.done():
            await asyncio.sleep(_SETTLED_SECONDS)
            if not self._under_way and not self._unsent:
                return

    async def _read(self) -> None:
        while (message := await self._stream.read()) is not grpc.aio.EOF:
            for number, query in zip(message.numbers, message.queries, strict=False):
                self._under_way[number] = asyncio.create_task(self._answered(number, query))
            for number in message.withdrawn:
                if (task := self._under_way.get(number)) is not None:
                    task.cancel()
            while len(self._under_way) >= _MOST_UNDER_WAY:
                self._room.clear()
                await self._room.wait()

    async def _answered(self, number: int, query: model_pb2.Query) -> None:
        try:
            result = await self._answer(query)
            self._ready.append((number, result))
            self._unsent += 1
            self._outbox.leave_soon()
        finally:
            self._under_way.pop(number, None)
            self._room.set()

    def _gathered(self) -> Iterator[model_pb2.Answered]:
        ready, self._ready = self._ready, []
        for some in in_messages(ready, _bytes_of, _MOST_UNDER_WAY):
            yield model_pb2.Answered(numbers=[one for one, _ in some], results=[one for _, one in some])

    def _note_sent(self, message: model_pb2.Answered) -> None:
        self._unsent -= len(message.numbers)


def _bytes_of(ready: tuple[int, model_pb2.Result]) -> int:
    return int(ready[1].ByteSize())
