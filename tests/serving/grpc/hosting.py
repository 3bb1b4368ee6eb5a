"""An engine behind a real gRPC server on a socket; its replicas are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from uvicorn.loops.auto import auto_loop_factory

from asterism.core.bundle import Bundle
from asterism.serving.engine.pool import EnginePool
from asterism.serving.grpc.addresses import MODEL_SERVICE
from asterism.serving.grpc.model_service import ModelServicer
from asterism.serving.grpc.proto.model_pb2_grpc import add_ModelServiceServicer_to_server
from asterism.serving.grpc.remote_engine import RemoteEngine
from asterism.serving.grpc.server import GrpcServer, HostedService
from asterism.serving.grpc.talking import TalkServer
from serving.engine.stepping import FACTORY, PATIENT, until


@dataclass(frozen=True)
class Hosted:
    """A pool, the server in front of it, and a client of that."""

    pool: EnginePool
    servicer: ModelServicer
    server: GrpcServer
    talking: TalkServer
    remote: RemoteEngine

    async def drain(self) -> None:
        """End the servers as the engine process does."""
        self.servicer.drain()
        await asyncio.gather(self.server.stop(), self.talking.stop())

    async def die(self) -> None:
        """End the servers in the middle of what they do."""
        await asyncio.gather(self.server.stop(0), self.talking.stop(0))


@contextlib.asynccontextmanager
async def hosted(bundle: Path, *, factory: str = FACTORY, talks: bool = True) -> AsyncIterator[Hosted]:
    """`talks`: on a socket of its own beside gRPC's, as an engine process does on one machine."""
    pool = EnginePool(factory, Bundle.open(bundle), frozenset, PATIENT)
    servicer = ModelServicer(pool)
    with tempfile.TemporaryDirectory() as folder:
        service = HostedService(MODEL_SERVICE, add_ModelServiceServicer_to_server, servicer)
        server = GrpcServer(f"unix:{folder}/engine.sock", [service])
        talking = TalkServer(server.address if talks else "127.0.0.1:1", servicer.converse)
        await talking.start()
        await server.start()
        pool.start()
        remote = RemoteEngine([server.address])
        remote.start()
        one = Hosted(pool, servicer, server, talking, remote)
        try:
            await asyncio.wait_for(remote.wait_ready(), 120)
            await server.set_healthy(MODEL_SERVICE, True)
            yield one
        finally:
            await remote.stop()
            await one.drain()
            await pool.stop()


@contextlib.asynccontextmanager
async def two_hosted(bundle: Path) -> AsyncIterator[tuple[Hosted, Hosted, RemoteEngine]]:
    """Two engines, and a client of both that serves their bundle."""
    async with hosted(bundle) as one, hosted(bundle) as two:
        both = RemoteEngine([one.server.address, two.server.address], Bundle.open(bundle))
        both.start()
        try:
            await until(lambda: [replica.ready for replica in both.status.engines] == [True, True])
            yield one, two, both
        finally:
            await both.stop()


def run(bundle: Path, work: Callable[[Hosted], Awaitable[None]], *, talks: bool = True) -> None:
    """Do something with a hosted engine."""

    async def main() -> None:
        async with hosted(bundle, talks=talks) as one:
            await work(one)

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:  # as an engine process has it
        runner.run(main())
