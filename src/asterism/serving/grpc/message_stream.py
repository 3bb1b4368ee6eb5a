"""Messages over a Unix socket, each behind its length: what two processes of one machine say most, without HTTP/2."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError, Message

from asterism.serving.grpc.addresses import socket_path

_LENGTH_BYTES: Final = 4
_MOST_BYTES: Final = 64 << 20  # no process can be made to hold more
_MOST_WAITING: Final = 64  # messages that came and were not read, before the other side has to wait
_SUFFIX: Final = ".talk"  # as short as it is, as a socket's path may be no longer


def talk_path(address: str) -> Path | None:
    """The socket beside that of a gRPC server; None where the server listens on a port."""
    path = socket_path(address)
    return None if path is None else path.with_name(path.name + _SUFFIX)


async def opened(address: str, received: type[Message]) -> MessageStream | None:
    """A stream to the process at an address; None where it has none, as on another machine or in an older version."""
    path = talk_path(address)
    if path is None:
        return None
    loop = asyncio.get_running_loop()
    try:
        _, stream = await loop.create_unix_connection(lambda: MessageStream(received), str(path))
    except OSError:
        return None
    return stream


class MessageStream(asyncio.Protocol):
    """Has what conversations use of a gRPC stream; for one event loop.

    It takes messages apart as bytes come: asyncio's own streams wake their reader for a length and again for what
    stands behind it.
    """

    def __init__(self, received: type[Message], on_open: Callable[[MessageStream], None] | None = None) -> None:
        """`received` is what the other side sends; `on_open` hears that it is connected."""
        self._received = received
        self._on_open = on_open
        self._transport: Any = None
        self._rest = bytearray()  # of a message that is not whole yet
        self._came: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None  # while more was written than the socket takes
        self._is_paused = False
        self._is_over = False  # nothing more comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        rest = self._rest
        rest += data
        start, size = 0, len(rest)
        while size - start >= _LENGTH_BYTES:
            length = int.from_bytes(rest[start : start + _LENGTH_BYTES])
            if length > _MOST_BYTES:
                self._is_over = True
                self.cancel()
                break
            end = start + _LENGTH_BYTES + length
            if end > size:
                break
            self._came.append(bytes(rest[start + _LENGTH_BYTES : end]))
            start = end
        del rest[:start]
        if len(self._came) >= _MOST_WAITING and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._tell(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._is_over = True
        self._tell(self._reader)
        self._tell(self._room)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        room, self._room = self._room, None
        self._tell(room)

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` where the other side has gone, or sends what cannot be read."""
        while not self._came:
            if self._is_over:
                self.cancel()
                return grpc.aio.EOF
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        body = self._came.popleft()
        if self._is_paused and not self._came:
            self._is_paused = False
            self._transport.resume_reading()
        try:
            return self._received.FromString(body)
        except DecodeError:
            self.cancel()
            return grpc.aio.EOF

    async def write(self, message: Message) -> None:
        """Send a message and wait until there is room for the next; of a side that has gone, `read` tells."""
        self.put(message)
        if self._room is not None:
            await self._room

    @property
    def has_room(self) -> bool:
        """Whether a message can be put at once."""
        return self._room is None

    def put(self, message: Message) -> None:
        """Send a message; as `write`, where nobody waits."""
        if not self._is_over and not self._transport.is_closing():
            body = message.SerializeToString()
            self._transport.write(len(body).to_bytes(_LENGTH_BYTES) + body)

    def cancel(self) -> None:
        """End the stream, once what was written has left."""
        self._transport.close()

    @staticmethod
    def _tell(waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
