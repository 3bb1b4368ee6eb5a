"""An engine behind a real gRPC server on a socket; its replicas are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from asterism.core.bundle import Bundle
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from asterism.serving.grpc.addresses import MODEL_SERVICE
from asterism.serving.grpc.model_service import ModelServicer
from asterism.serving.grpc.proto.model_pb2_grpc import add_ModelServiceServicer_to_server
from asterism.serving.grpc.remote_engine import RemoteEngine
from asterism.serving.grpc.server import GrpcServer, HostedService
from serving.engine.stepping import FACTORY


@dataclass(frozen=True)
class Hosted:
    """A pool, the server in front of it, and a client of that."""

    pool: EnginePool
    servicer: ModelServicer
    server: GrpcServer
    remote: RemoteEngine

    async def drain(self) -> None:
        """End the server as the engine process does."""
        self.servicer.drain()
        await self.server.stop()


@contextlib.asynccontextmanager
async def hosted(bundle: Path, *, factory: str = FACTORY) -> AsyncIterator[Hosted]:
    pool = EnginePool(factory, Bundle.open(bundle), frozenset, EngineLimits(max_wait_seconds=60))
    servicer = ModelServicer(pool)
    with tempfile.TemporaryDirectory() as folder:
        service = HostedService(MODEL_SERVICE, add_ModelServiceServicer_to_server, servicer)
        server = GrpcServer(f"unix:{folder}/engine.sock", [service])
        await server.start()
        pool.start()
        remote = RemoteEngine([server.address])
        remote.start()
        one = Hosted(pool, servicer, server, remote)
        try:
            await asyncio.wait_for(remote.wait_ready(), 60)
            await server.set_healthy(MODEL_SERVICE, True)
            yield one
        finally:
            await remote.stop()
            await one.drain()
            await pool.stop()


def run(bundle: Path, work: Callable[[Hosted], Awaitable[None]]) -> None:
    """Do something with a hosted engine."""

    async def main() -> None:
        async with hosted(bundle) as one:
            await work(one)

    asyncio.run(main())
