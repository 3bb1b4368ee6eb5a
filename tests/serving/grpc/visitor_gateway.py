"""States and slates behind a real gRPC server on a socket, as the gateway of the embedded stores has them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from asterism.serving.grpc.proto import visitors_pb2_grpc
from asterism.serving.grpc.visitor_services import visitor_server
from asterism.serving.hot_state import HotState
from asterism.serving.worker import visitors
from asterism.serving.worker.visitors import GatewayVisitors
from asterism.stores.opening import Hot, open_hot


@dataclass(frozen=True)
class Gateway:
    """States in the memory of one process, and the worker's way to them."""

    stores: Hot
    visitors: GatewayVisitors
    stub: Any
    calls: list[str]  # of the service, in their order


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    stores, calls = open_hot("memory"), list[str]()

    class Noting(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            calls.append(details.method.rpartition("/")[2])
            return await continuation(details)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(visitors, "_CALL_SECONDS", 60.0)
        serve = grpc.aio.server
        patch.setattr(grpc.aio, "server", lambda **options: serve(interceptors=[Noting()], **options))
        server = visitor_server(f"unix:{folder}/gateway.sock", HotState({}, stores=stores))
        await server.start()
        client = GatewayVisitors(server.address)
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Gateway(stores, client, visitors_pb2_grpc.SlateServiceStub(channel), calls)
        await client.close()
        await server.stop(0)


def run(work: Callable[[Gateway], Awaitable[None]]) -> None:
    async def main() -> None:
        async with gateway() as one:
            await work(one)

    asyncio.run(main())
