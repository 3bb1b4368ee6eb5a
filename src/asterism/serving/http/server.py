"""Runs the gateway: takes the port, says where it is, and ends gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from asterism.core.errors import ModelError
from asterism.core.pauses import PacedCollections, keep_pauses_short
from asterism.serving.grpc.visitor_services import visitor_server
from asterism.serving.http.app import build_gateway
from asterism.serving.http.connections import QuickConnection
from asterism.serving.http.gate import Gate
from asterism.serving.http.listening import url_of
from asterism.serving.service import Service
from asterism.serving.stopping import hurries, stop_signals

_DRAIN_SECONDS: Final = 10
_LINGER_SECONDS: Final = 0.3  # longer than a client takes from one request to the next while it has more to ask
_VISITORS_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 75  # longer than the minute of usual proxies, who else send into a connection that is closing


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`, so that a stopped service exits with status 0, and cuts no request."""

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], None], on_stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._on_stopping = on_stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer whoever is connected, and tell them with it that the connection ends.

        To close a connection that only seems idle would cut the request that is on its way.
        """
        self._on_stopping()
        self.server_state.default_headers.append((b"connection", b"close"))
        await self._take_who_waits(sockets or [])
        end = time.monotonic() + _LINGER_SECONDS
        while self.server_state.connections and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(_LINGER_SECONDS / 20)
        await super().shutdown(sockets)

    async def _take_who_waits(self, sockets: list[socket.socket]) -> None:
        """Accept what the kernel has accepted already; closing the socket would reset these connections."""
        waiting: list[socket.socket] = []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.setblocking(False)
                while True:
                    waiting.append(one.accept()[0])
        for server in self.servers:
            server.close()
        for one in sockets:
            one.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(
    service: Service,
    taken: socket.socket,
    say: Callable[[str], None],
    address: str,
    gate: Gate,
    *,
    supervised: bool = False,
) -> None:
    """`serve` on an event loop of its own: uvloop's where it is installed."""
    keep_pauses_short()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(service, taken, say, address, gate, supervised=supervised))


async def serve(
    service: Service,
    taken: socket.socket,
    say: Callable[[str], None],
    address: str | None = None,
    gate: Gate | None = None,
    *,
    supervised: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests finish; a second signal ends at once, unless it is supervised.

    At `address`, features and slates are told to other processes. `say` gets the lines that tell where the
    service is and when its model is loaded. The gate is closed at the end. Raises `ModelError`, and serves no
    longer, where the engine refuses to load at the start.
    """
    gateway = build_gateway(service, gate)
    connection: Any = functools.partial(QuickConnection, lane=gateway.lane)
    config = uvicorn.Config(
        gateway.app,
        http=connection,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_keep_alive=_IDLE_SECONDS,
    )
    where = f"Asterism serves {service.bundle.path} at {url_of(taken)}"
    listens = f"{where} (popular items, until the model is loaded)"
    server = _Server(config, lambda: say(listens), service.deployer.give_up)
    loop = asyncio.get_running_loop()

    def stop(number: int = signal.SIGTERM) -> None:
        server.force_exit |= server.should_exit and hurries(number) and not supervised  # see `stopping`
        server.should_exit = True

    for number in stop_signals():
        loop.add_signal_handler(number, stop, number)
    announcing = asyncio.create_task(_announce_model(service, say, stop))
    collecting = asyncio.create_task(PacedCollections(lambda: server.server_state.total_requests).run())
    visitors = visitor_server(address, service.hot) if address is not None else None
    try:
        if visitors is not None:
            await visitors.start()
        await server.serve(sockets=[taken])
    finally:
        announcing.cancel()
        collecting.cancel()
        if visitors is not None:
            await visitors.stop(_VISITORS_SECONDS)
        if gate is not None:
            gate.close()
    with contextlib.suppress(asyncio.CancelledError):
        await announcing


async def _announce_model(service: Service, say: Callable[[str], None], stop: Callable[[], None]) -> None:
    started = time.monotonic()
    try:
        await service.engine.wait_ready()
    except ModelError:
        stop()
        raise
    say(f"the model is loaded, after {time.monotonic() - started:.1f} s")
