"""A gRPC server with health and reflection, on a Unix socket that is its user's alone, or on a port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from asterism.core.errors import ConfigError
from asterism.serving.grpc.addresses import checked, make_room, socket_path, take_away

#: Ten times the largest request of 10,000 seen items with ids of usual length; no process can be made to hold more.
MOST_MESSAGE_BYTES: Final = 8 << 20
MOST_FORGOTTEN: Final = 10_000  # users in one call
DRAIN_SECONDS: Final = 10.0

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the port is refused, rather than given half of the calls
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)


class HostedService(NamedTuple):
    """A service as it is added to a server."""

    name: str  # with its package
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any
    is_ready: bool = True  # from the start; else once `set_healthy` says so


class GrpcServer:
    """For one event loop."""

    def __init__(self, address: str, services: Sequence[HostedService]) -> None:
        """Raises `ConfigError` on an address that is none."""
        self.address = checked(address)
        self._services = services
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; raises `ConfigError` where the address cannot be had."""
        await asyncio.to_thread(make_room, self.address)
        server = grpc.aio.server(options=_OPTIONS)
        for one in self._services:
            one.add(one.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*(one.name for one in self._services), health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        for one in self._services:
            await self.set_healthy(one.name, one.is_ready)
        self._listen(server)
        await server.start()
        self._server = server
        await self.set_healthy("", True)

    async def set_healthy(self, name: str, healthy: bool) -> None:
        """What grpc.health.v1 says of a service."""
        states = health_pb2.HealthCheckResponse
        await self._health.set(name, states.SERVING if healthy else states.NOT_SERVING)

    async def stop(self, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Take no new call, let those under way finish, for so long at most, and take the socket away."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace_seconds)
            take_away(self.address)

    def _listen(self, server: grpc.aio.Server) -> None:
        before = os.umask(0o177) if socket_path(self.address) is not None else None
        try:
            server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ConfigError(
                f"{self.address} cannot be listened on ({error}); choose another with --listen"
            ) from error
        finally:
            if before is not None:
                os.umask(before)
