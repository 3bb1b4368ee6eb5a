"""The engine's socket for gateways of its machine: conversations, and nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from asterism.core.errors import ConfigError
from asterism.serving.grpc.addresses import make_room, take_away
from asterism.serving.grpc.message_stream import MessageStream, talk_path
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.server import DRAIN_SECONDS

Converse = Callable[[MessageStream], Awaitable[None]]


class TalkServer:
    """Listens beside a gRPC server whose address is a Unix socket; does nothing beside one on a port."""

    def __init__(self, address: str, converse: Converse) -> None:
        """`converse` answers one stream until it ends."""
        self._path = talk_path(address)
        self._converse = converse
        self._server: asyncio.Server | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; raises `ConfigError` where the socket cannot be had."""
        if self._path is not None:
            await asyncio.to_thread(make_room, f"unix:{self._path}")
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(
                lambda: MessageStream(model_pb2.Asked, self._take), sock=_bound(self._path)
            )

    async def stop(self, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Take no new stream, let those under way end, for so long at most, and take the socket away."""
        if self._server is None:
            return
        self._server.close()
        take_away(f"unix:{self._path}")
        talks = list(self._under_way)
        if talks:
            await asyncio.wait(talks, timeout=grace_seconds)
        for one in talks:
            one.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    def _take(self, stream: MessageStream) -> None:
        task = asyncio.ensure_future(self._talk(stream))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _talk(self, stream: MessageStream) -> None:
        try:
            await self._converse(stream)
        finally:
            stream.cancel()


def _bound(path: Path) -> socket.socket:
    """A socket that is its user's alone from the moment it is there."""
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ConfigError(f"{path} cannot be listened on ({error}); choose another place with --listen") from error
    finally:
        os.umask(before)
    return listening
