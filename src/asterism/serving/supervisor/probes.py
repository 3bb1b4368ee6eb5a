"""How the supervisor finds out whether a process still answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROBE_SECONDS: Final = 5.0

#: True where the process does what it is there for, False where it lives and cannot yet; raises without an answer.
Probe = Callable[[], Awaitable[bool]]


def http_probe(host: str, port: int) -> Probe:
    """GET /healthz."""
    asked = f"GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(asked)
            return b" 200 " in await reader.readline()
        finally:
            writer.close()

    return probe


def grpc_probe(address: str, service: str) -> Probe:
    """grpc.health.v1, over a channel of its own each time: an old one may still wait to reconnect."""

    async def probe() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=PROBE_SECONDS
            )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe
