"""What leaves a stream together: everything that one turn of the event loop had to say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from asterism.serving.grpc.message_stream import MessageStream


class WritableStream(Protocol):
    """What is used of a stream: gRPC's own, or a `MessageStream`."""

    def write(self, message: Any) -> Awaitable[Any]:
        """Send a message."""
        ...


class Outbox:
    """Sends the messages that are gathered; for one event loop."""

    def __init__(
        self,
        stream: WritableStream,
        gathered: Callable[[], Iterator[Any]],
        sent: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """`gathered` gives the messages of all that waits, which then waits no more; `sent` hears of each."""
        self._stream = stream
        self._gathered = gathered
        self._sent = sent
        self._something = asyncio.Event()
        self._is_leaving = False  # at the end of this turn of the loop

    def leave_soon(self) -> None:
        """Something waits."""
        if not self._is_leaving:
            self._is_leaving = True
            asyncio.get_running_loop().call_soon(self._leave)

    async def run(self) -> None:
        """Write what gathers while the last message is on its way; ends by the stream's error."""
        while True:
            await self._something.wait()
            self._something.clear()
            for message in self._gathered():
                await self._stream.write(message)
                self._sent(message)

    def _leave(self) -> None:
        """Put on the stream what waits; where it takes no more now, `run` does so later."""
        self._is_leaving = False
        if not isinstance(self._stream, MessageStream) or not self._stream.has_room:
            self._something.set()
            return
        for message in self._gathered():
            self._stream.put(message)
            self._sent(message)
