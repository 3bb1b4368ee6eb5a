"""Messages over a Unix socket, each behind its length: what two processes of one machine say most, without HTTP/2."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message

from asterism.serving.grpc.addresses import socket_path

_LENGTH_BYTES: Final = 4
_MOST_BYTES: Final = 64 << 20  # no process can be made to hold more
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
    try:
        return MessageStream(*await asyncio.open_unix_connection(path), received)
    except OSError:
        return None


class MessageStream:
    """Has what conversations use of a gRPC stream; for one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: type[Message]) -> None:
        """`received` is what the other side sends."""
        self._reader = reader
        self._writer = writer
        self._received = received

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` where the other side has gone, or sends what cannot be read."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            if length <= _MOST_BYTES:
                return self._received.FromString(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, DecodeError):
            pass
        self.cancel()
        return grpc.aio.EOF

    async def write(self, message: Message) -> None:
        """Send a message and wait until there is room for the next; of a side that has gone, `read` tells."""
        body = message.SerializeToString()
        try:
            self._writer.write(len(body).to_bytes(_LENGTH_BYTES) + body)
            await self._writer.drain()
        except (OSError, RuntimeError):  # the latter is uvloop's word for a transport that is closed
            self.cancel()

    def cancel(self) -> None:
        """End the stream, once what was written has left."""
        self._writer.close()
