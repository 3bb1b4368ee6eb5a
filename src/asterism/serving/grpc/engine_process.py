"""The engine process: a pool of replicas behind `ModelService`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uvicorn.loops.auto import auto_loop_factory

from asterism.core.bundle import Bundle
from asterism.core.pauses import keep_pauses_short
from asterism.serving.deploying import note_deployed
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from asterism.serving.grpc.addresses import MODEL_SERVICE
from asterism.serving.grpc.hidden_items import HiddenItems
from asterism.serving.grpc.model_service import ModelServicer
from asterism.serving.grpc.proto.model_pb2_grpc import add_ModelServiceServicer_to_server
from asterism.serving.grpc.server import GrpcServer, HostedService
from asterism.serving.grpc.talking import TalkServer
from asterism.serving.places import METRICS_HOST
from asterism.serving.stopping import StopSignals
from asterism.serving.telemetry.engine_process import instrument_engine
from asterism.serving.telemetry.exposition import serving_metrics

_HEALTH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class EngineProcessSettings:
    """Which model, where it is asked, and which catalogue says what must not be shown."""

    bundle: Path
    address: str
    factory: str
    catalogue: str  # URL
    timeout_seconds: float = 5.0  # of the catalogue
    limits: EngineLimits = field(default_factory=EngineLimits)
    metrics_port: int | None = None  # where Prometheus finds `/metrics`
    metrics_host: str = METRICS_HOST
    state: Path | None = None  # where a swap is written down, so that a restart serves the same
    asked: Path | None = None  # the bundle that it was started with, where that is not the one that was deployed
    supervised: bool = False  # see `stopping`


def run_engine(settings: EngineProcessSettings, say: Callable[[str], None]) -> None:
    """`serve_engine` on an event loop of its own: uvloop's where it is installed."""
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve_engine(settings, say))


async def serve_engine(settings: EngineProcessSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let calls finish; a second signal ends at once, unless it is supervised.

    Raises `BundleError`, `ConfigError`, and `ModelError` where the model refuses to load at first.
    """
    stop = StopSignals(supervised=settings.supervised)
    bundle = Bundle.open(settings.bundle)
    hidden = HiddenItems(settings.catalogue, settings.timeout_seconds)
    pool = EnginePool(settings.factory, bundle, hidden.now, settings.limits)
    servicer = ModelServicer(pool, SwapNotes(settings.state, settings.asked or bundle.path, bundle))
    telemetry = instrument_engine(pool, servicer)
    hosted = HostedService(MODEL_SERVICE, add_ModelServiceServicer_to_server, servicer, is_ready=False)
    server = GrpcServer(settings.address, [hosted])
    talking = TalkServer(settings.address, servicer.converse)
    telling: asyncio.Task[None] | None = None
    try:
        await talking.start()
        await server.start()
        pool.start()
        hidden.start()
        say(f"the engine of {bundle.path} listens at {server.address}")
        telling = asyncio.create_task(_tell_health(pool, server))
        with serving_metrics(settings.metrics_port, telemetry.registry, settings.metrics_host):
            await _until_stopped(pool, stop, say)
    finally:
        servicer.drain()
        await stop.unless_hurried(_stopped(server, talking))
        if telling is not None:
            telling.cancel()
        await pool.stop()
        await asyncio.to_thread(hidden.close)
        await asyncio.to_thread(telemetry.close)


class SwapNotes:
    """Writes down what is served after each swap; what could not be is written when the same is asked for again."""

    def __init__(self, state: Path | None, asked: Path, bundle: Bundle) -> None:
        self._state, self._asked = state, asked
        self._before = self._served = bundle.path
        self._is_owed = False

    def __call__(self, bundle: Bundle) -> None:
        if bundle.path.resolve() != self._served.resolve():
            self._before, self._served, self._is_owed = self._served, bundle.path, True
        if self._state is not None and self._is_owed:
            note_deployed(self._state, self._asked, self._served, self._before)
            self._is_owed = False


async def _stopped(server: GrpcServer, talking: TalkServer) -> None:
    await asyncio.gather(server.stop(), talking.stop())


async def _until_stopped(pool: EnginePool, stop: StopSignals, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    stopping, loading = asyncio.create_task(stop.asked.wait()), asyncio.create_task(pool.wait_ready())
    try:
        await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
            keep_pauses_short()
            say(f"the model is loaded, after {time.monotonic() - started:.1f} s")
        await stopping
    finally:
        loading.cancel()
        stopping.cancel()


async def _tell_health(pool: EnginePool, server: GrpcServer) -> None:
    while True:
        await server.set_healthy(MODEL_SERVICE, pool.status.ready)
        await pool.wait_changed(_HEALTH_SECONDS)
