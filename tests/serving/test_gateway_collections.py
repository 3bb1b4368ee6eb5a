"""A gateway takes turns at collecting for as long as it serves, and no longer."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from uvicorn.loops.auto import auto_loop_factory

from asterism.core.pauses import PacedCollections
from asterism.serving.http import server
from asterism.serving.service import ServiceSettings, open_service
from serving.running import ENGINE, environment
from serving.small_market import write_bundle


class Noted(PacedCollections):
    """Says what becomes of it, and collects nothing."""

    made: list[Noted]

    def __init__(self, work_done: Callable[[], int]) -> None:
        super().__init__(work_done)
        self.answered = work_done
        self.taken = asyncio.Event()
        self.is_over = False
        self.made.append(self)

    def turn(self) -> None:
        self.taken.set()

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self.is_over = True


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_a_gateway_takes_turns_and_knows_what_was_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Noted, "made", [], raising=False)
    monkeypatch.setattr(server, "PacedCollections", Noted)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    write_bundle(tmp_path / "bundle")
    service = open_service(ServiceSettings(tmp_path / "bundle", tmp_path / "state", ENGINE))

    async def story() -> None:
        taken = socket.create_server(("127.0.0.1", 0))
        port, listening = taken.getsockname()[1], asyncio.Event()
        serving = asyncio.create_task(server.serve(service, taken, lambda _: listening.set()))
        await listening.wait()
        (turns,) = Noted.made
        assert turns.answered() == 0
        await turns.taken.wait()
        assert (await ask(port)).startswith(b"HTTP/1.1 200")
        assert turns.answered() == 1
        assert not turns.is_over
        signal.raise_signal(signal.SIGTERM)
        await serving
        assert turns.is_over

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(asyncio.wait_for(story(), 120))
