"""One engine process from its start to its end, as the service holds it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final

import msgspec

from asterism.core.errors import ModelError
from asterism.serving.engine import messages

_STREAM_LIMIT_BYTES: Final = 64 << 20
_STOP_SECONDS: Final = 2.0
_SENSELESS: Final = (msgspec.MsgspecError, UnicodeDecodeError)  # the latter where a text in a message is none


class EngineChild:
    """Messages to and from a process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def spawn(cls, start: messages.Start) -> EngineChild:
        """Start a process, which then loads; raises `OSError`."""
        command = (sys.executable, "-m", "asterism.serving.engine.worker", messages.encode_start(start).decode())
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=PIPE,
                limit=_STREAM_LIMIT_BYTES,
                start_new_session=True,  # Ctrl-C is for the service, which lets requests finish before it ends this one
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # more threads would fight over the cores (docs/serving.md)
            )
        )
        try:
            return cls(await asyncio.shield(starting))
        except asyncio.CancelledError:  # uvloop would leave a process behind that is started just now
            with contextlib.suppress(OSError):
                await cls(await starting).end(at_once=True)
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def loaded(self, timeout_seconds: float) -> messages.Loaded:
        """What the process says once it has loaded; raises `ModelError` where it dies or takes too long."""
        try:
            return messages.decode_loaded(await asyncio.wait_for(self._receive(), timeout_seconds))
        except TimeoutError:
            raise ModelError(f"the engine process {self.pid} did not load within {timeout_seconds:g} s") from None
        except _SENSELESS as error:
            raise self._senseless(error) from error

    async def reply(self) -> messages.Reply | None:
        """The next reply, None for `NEARLY_DONE`; raises `ModelError` where the process dies, or says nonsense."""
        try:
            body = await self._receive()
            return messages.decode_reply(body) if body else None
        except _SENSELESS as error:
            raise self._senseless(error) from error

    def send(self, message: messages.ToEngine) -> None:
        """Hand a message over, without waiting until it is read; what a dying process does not read is lost."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(messages.pack(message))

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, *, at_once: bool) -> None:
        """Let the process see that the service is done with it, and wait until it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 0.0 if at_once else _STOP_SECONDS)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def _senseless(self, error: Exception) -> ModelError:
        return ModelError(f"the engine process {self.pid} sent what is no message ({error})")

    async def _receive(self) -> bytes:
        assert self._process.stdout is not None
        try:
            return await messages.read_async(self._process.stdout)
        except asyncio.IncompleteReadError:
            status = await self._process.wait()
            raise ModelError(f"the engine process {self.pid} ended with status {status}") from None
