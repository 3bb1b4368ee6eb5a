"""A service with doors that have a lane or none, and visitors who speak HTTP byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import uvicorn
from prometheus_client import generate_latest
from uvicorn.loops.auto import auto_loop_factory

from asterism.config.guard import GuardConfig
from asterism.serving.http.app import build_gateway
from asterism.serving.http.connections import QuickConnection
from asterism.serving.http.gate import Gate
from asterism.serving.http.hot.page_lane import PageLane
from asterism.serving.service import Service, ServiceSettings, open_service
from serving.running import ENGINE, environment
from serving.small_market import write_bundle

T = TypeVar("T")

PATIENCE_SECONDS = 60.0

CHANGING = {b"x-trace-id", b"traceparent", b"date", b"content-length"}

OWN = re.compile(rb'"(attribution_id|trace_id)":"[0-9a-f]+"|"latency_ms":[0-9.]+|"cached":(true|false)')


class Answer(NamedTuple):
    """As it came over the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def comparable(self) -> Any:
        """All that two answers to the same request share."""
        fixed = [one for one in self.headers if one[0] not in CHANGING]
        return self.status, [name for name, _ in self.headers], fixed, OWN.sub(b"", self.body)

    def header(self, name: bytes) -> bytes:
        return dict(self.headers)[name]


class House:
    """One service, and doors into it."""

    def __init__(self, service: Service, runner: asyncio.Runner) -> None:
        self.service = service
        self._runner = runner

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(asyncio.wait_for(story, PATIENCE_SECONDS))

    @contextlib.asynccontextmanager
    async def door(self, gate: Gate | None = None, *, lane: bool = True, idle_seconds: int = 75) -> AsyncIterator[Door]:
        """A port of its own; `lane` says whether there is one."""
        gate = gate or Gate(GuardConfig.model_validate({"instance_per_second": 1e6}))
        gateway = build_gateway(self.service, gate)
        assert gateway.lane is not None
        by_lane = _counted(gateway.lane)
        kind: Any = functools.partial(QuickConnection, lane=gateway.lane if lane else None)
        config = uvicorn.Config(
            gateway.app, http=kind, ws="none", port=0, lifespan="off", log_config=None, timeout_keep_alive=idle_seconds
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        found = Door(server, by_lane, gateway.lane)
        try:
            yield found
        finally:
            await found.close()
            await serving


def _counted(lane: PageLane) -> list[bool]:
    """What becomes of each look at a lane: whether it had an answer."""
    found: list[bool] = []
    answer = lane.answer

    def counted(*arguments: Any) -> bytes | None:
        given = answer(*arguments)
        found.append(bool(given))
        return given

    lane.answer = counted  # type: ignore[method-assign]
    return found


class Door:
    """A port, and who came in by it."""

    def __init__(self, server: uvicorn.Server, by_lane: list[bool], lane: PageLane) -> None:
        self.server = server
        self.lane = lane
        self.by_lane = by_lane
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self._visitors: list[Visitor] = []

    async def enter(self) -> Visitor:
        self._visitors.append(Visitor(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self._visitors[-1]

    async def close(self) -> None:
        for one in self._visitors:
            one.writer.close()
            with contextlib.suppress(ConnectionError):
                await one.writer.wait_closed()
        self.server.should_exit = True


class Visitor:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *parts: bytes) -> Answer:
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.05)  # so that they are not one when they arrive
            self.writer.write(part)
        return await self.answer()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in head[1:])]
        length = int(dict(headers)[b"content-length"])
        return Answer(int(head[0].split()[1]), headers, await self.reader.readexactly(length))

    async def is_left(self) -> bool:
        return await self.reader.read(1) == b""


def request(
    body: Any, *lines: str, method: str = "POST", path: str = "/api/v1/recommend", version: str = "1.1"
) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = [f"{method} {path} HTTP/{version}", "host: localhost", "content-type: application/json", *lines]
    return "\r\n".join([*own, f"content-length: {len(content)}", "", ""]).encode() + content


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[House]:
    """A house over a small shop, whose engine has loaded."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        write_bundle(folder / "bundle")
        service = open_service(
            ServiceSettings(folder / "bundle", folder / "state", ENGINE, deadline_seconds=30.0, slate_seconds=1e6)
        )

        async def start() -> House:
            service.start()
            await service.engine.wait_ready()
            return House(service, runner)

        yield runner.run(start())
        runner.run(service.stop())


async def learnt(visitor: Visitor, wire: bytes) -> None:
    for _ in range(3):
        assert (await visitor.ask(wire)).status == 200


def counted_by(house: House) -> dict[str, float]:
    """Every counter of the service, histograms' counts among them."""
    text = generate_latest(house.service.telemetry.registry).decode()
    lines = [one.rpartition(" ") for one in text.splitlines() if not one.startswith("#")]
    return {name: float(value) for name, _, value in lines if re.search(r"_(total|count)(\{|$)", name)}
