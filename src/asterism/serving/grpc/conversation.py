"""Many requests over one stream to an engine process: what is asked in the same moment travels together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc

from asterism.core.errors import ModelError, OverloadedError, RequestError
from asterism.serving.grpc.message_room import LARGEST_PART_BYTES, in_messages
from asterism.serving.grpc.outbox import Outbox
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.queries import answer_of, query_of
from asterism.serving.ports import EngineAnswer, EngineRequest

_LATE_SECONDS: Final = 10.0  # how long an answer is waited for that comes too late for its request
_NO_DEADLINE_SECONDS: Final = 0.2
_MOST_QUERIES: Final = 256  # in one message; more follow in the next


class EngineLostError(ModelError):
    """The process went, or cannot be reached; another one might answer."""

    code = 30005


class Conversation:
    """One stream from its beginning to its end; for one event loop."""

    def __init__(self, stream: Any, packed_format: int) -> None:
        self._stream = stream
        self._packed_format = packed_format
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[EngineAnswer]] = {}
        self._asked: list[tuple[int, model_pb2.Query]] = []
        self._withdrawn: list[int] = []
        self._outbox = Outbox(stream, self._gathered)
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        self.is_over = False

    @property
    def under_way(self) -> int:
        """Requests that wait for their answer."""
        return len(self._waiting)

    async def ask(self, request: EngineRequest) -> EngineAnswer:
        """One answer; raises `EngineLostError` when the stream ends, `OverloadedError`, or what the engine says.

        Raises `RequestError` where the request is larger than a message.

        Cancelling the call withdraws the request.
        """
        if self.is_over:
            raise EngineLostError("the engine was lost")
        query = query_of(request, self._packed_format)
        if query.ByteSize() > LARGEST_PART_BYTES:  # the stream, and all who wait on it, would end by it
            raise RequestError(f"a query of {query.ByteSize()} bytes is too large to be sent; exclude fewer items")
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        waiting: asyncio.Future[EngineAnswer] = loop.create_future()
        self._waiting[number] = waiting
        self._asked.append((number, query))
        self._outbox.leave_soon()
        seconds = _NO_DEADLINE_SECONDS if request.deadline is None else request.deadline - time.monotonic()
        timer = loop.call_later(seconds + _LATE_SECONDS, _give_up, waiting)
        try:
            return await waiting
        except (asyncio.CancelledError, OverloadedError):
            if number in self._waiting:
                self._withdrawn.append(number)
                self._outbox.leave_soon()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
            del waiting  # which holds the error, whose traceback holds this frame

    def end(self, reason: str) -> None:
        """Whoever waits hears that the engine was lost, and why."""
        self.is_over = True
        for one in self._tasks:
            one.cancel()
        self._stream.cancel()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(EngineLostError(reason))

    async def _send(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # `_receive` tells why
            await self._outbox.run()

    def _gathered(self) -> Iterator[model_pb2.Asked]:
        asked, self._asked = self._asked, []
        withdrawn, self._withdrawn = self._withdrawn, []
        if withdrawn:
            yield model_pb2.Asked(withdrawn=withdrawn)
        for some in in_messages(asked, _bytes_of, _MOST_QUERIES):
            wanted = [one for one in some if one[0] in self._waiting]
            yield model_pb2.Asked(numbers=[number for number, _ in wanted], queries=[query for _, query in wanted])

    async def _receive(self) -> None:
        reason = "the engine ended the conversation"
        try:
            while (message := await self._stream.read()) is not grpc.aio.EOF:
                for number, result in zip(message.numbers, message.results, strict=False):
                    self._resolve(number, result)
        except grpc.aio.AioRpcError as error:
            reason = f"the engine was lost ({error.details()})"
        finally:
            self.end(reason)

    def _resolve(self, number: int, result: model_pb2.Result) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(answer_of(result))
        except Exception as error:  # what cannot be read must not end the conversation of all others
            waiting.set_exception(error.with_traceback(None))  # which would hold this frame, and so the future


def _bytes_of(asked: tuple[int, model_pb2.Query]) -> int:
    return int(asked[1].ByteSize())


def _give_up(waiting: asyncio.Future[EngineAnswer]) -> None:
    if not waiting.done():
        waiting.set_exception(OverloadedError("the engine did not answer in time"))
