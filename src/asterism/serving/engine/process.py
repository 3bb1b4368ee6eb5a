"""Keeps an engine process alive and feeds it the requests that wait, together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from asterism.core.bundle import Bundle
from asterism.core.errors import ModelError, OverloadedError
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine import messages
from asterism.serving.ports import EngineAnswer, EngineRequest

_STREAM_LIMIT_BYTES: Final = 64 << 20
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 10.0
_HEALTHY_AFTER_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much waits for the engine, and for how long it may be silent."""

    max_batch: int = 32
    max_pending: int = 512
    max_wait_seconds: float = 0.2  # in the queue; who waited longer has been answered otherwise
    load_timeout_seconds: float = 120.0
    batch_timeout_seconds: float = 10.0


class EngineStatus(NamedTuple):
    """The engine process as an operator sees it."""

    ready: bool
    pid: int | None
    starts: int
    error: str | None  # why it is not ready, where that is known


class _Waiting(NamedTuple):
    request: EngineRequest
    answer: asyncio.Future[EngineAnswer]
    expires: float  # on the clock of time.monotonic


class EngineProcess:
    """Implements `EngineClient` over a child process; for one event loop.

    One batch is under way at a time, and everything that came meanwhile forms the next. A process
    that dies or hangs is started again; the requests it held fail with `ModelError`. Only one that
    refuses before it was ever loaded is left alone: it would refuse again.
    """

    def __init__(
        self,
        factory_name: str,
        bundle: Bundle,
        unavailable: Callable[[], frozenset[str]],
        limits: EngineLimits | None = None,
    ) -> None:
        worker = (sys.executable, "-m", "asterism.serving.engine.worker")
        self._command = (*worker, factory_name, str(bundle.path), bundle.version)
        self._unavailable = unavailable
        self._limits = limits or EngineLimits()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(self._limits.max_pending)
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # loaded, or refused for good
        self._has_refused = False
        self._starts = 0
        self._error: str | None = None
        self._semantic_ids: dict[str, SemanticId] = {}

    def start(self) -> None:
        """Start the process, and from now on keep it alive."""
        self._keeper = asyncio.create_task(self._keep_alive(), name="engine")

    async def stop(self) -> None:
        """End the process; requests that wait fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._fail_waiting("the engine was stopped")

    @property
    def status(self) -> EngineStatus:
        """How the process is."""
        pid = self._process.pid if self._process is not None else None
        return EngineStatus(self._is_ready, pid, self._starts, self._error)

    async def wait_ready(self) -> None:
        """Return once the engine is loaded; raises `ModelError` where it refused before it ever was."""
        await self._settled.wait()
        if self._has_refused:
            raise ModelError(self._error)

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """See `EngineClient.recommend`."""
        if not self._is_ready:
            raise ModelError(f"the engine is not ready: {self._error or 'it is loading'}")
        answer: asyncio.Future[EngineAnswer] = asyncio.get_running_loop().create_future()
        expires = time.monotonic() + self._limits.max_wait_seconds
        try:
            self._queue.put_nowait(_Waiting(request, answer, expires))
        except asyncio.QueueFull:
            raise OverloadedError(f"{self._limits.max_pending} requests wait for the engine already") from None
        return await answer

    def semantic_id(self, item_id: str) -> SemanticId | None:
        """See `EngineClient.semantic_id`; what a dead process told still holds, as the bundle is the same."""
        return self._semantic_ids.get(item_id)

    @property
    def _is_ready(self) -> bool:
        return self._settled.is_set() and not self._has_refused

    async def _keep_alive(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._run_once()
            except (OSError, ModelError) as error:
                self._error = str(error)
            finally:
                await self._end_process()
            self._fail_waiting(self._error or "the engine died")
            if self._has_refused:
                self._settled.set()
                return
            logger.error("%s; the engine is started again in %.1f s", self._error, pause_seconds)
            if time.monotonic() - started > _HEALTHY_AFTER_SECONDS:
                pause_seconds = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    async def _run_once(self) -> None:
        """Start the process and serve batches until it fails; raises `ModelError` or `OSError`."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            limit=_STREAM_LIMIT_BYTES,
            process_group=0,  # Ctrl-C is for the service, which lets requests finish before it ends this process
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # more threads than that fight over the cores (docs/serving.md)
        )
        self._process = process
        self._starts += 1
        loaded = messages.decode_loaded(await self._receive(process, self._limits.load_timeout_seconds, "load"))
        if loaded.refusal is not None:
            self._has_refused = not self._semantic_ids  # what was loaded once, from the same files, may be again
            raise ModelError(f"the engine cannot be loaded: {loaded.refusal}")
        self._semantic_ids = loaded.semantic_ids
        self._error = None
        self._settled.set()
        sent_unavailable: frozenset[str] | None = None
        while True:
            waiting = self._without_expired(await self._next_batch(process))
            if not waiting:
                continue
            unavailable = self._unavailable()
            changed = unavailable if unavailable != sent_unavailable else None
            sent_unavailable = unavailable
            await self._serve(process, waiting, changed)

    async def _next_batch(self, process: Process) -> list[_Waiting]:
        first = asyncio.create_task(self._queue.get())
        death = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({first, death}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                raise ModelError(f"the engine process {process.pid} ended with status {process.returncode}")
            batch = [first.result()]
        finally:
            first.cancel()
            death.cancel()
        while len(batch) < self._limits.max_batch and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def _without_expired(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Under overload the engine's time goes to those who still wait, or it would answer everybody too late."""
        now = time.monotonic()
        for one in batch:
            if one.expires < now and not one.answer.done():
                waited = self._limits.max_wait_seconds
                one.answer.set_exception(OverloadedError(f"the engine was busy for longer than {waited:g} s"))
        return [one for one in batch if not one.answer.done()]

    async def _serve(self, process: Process, waiting: list[_Waiting], unavailable: frozenset[str] | None) -> None:
        try:
            requests = tuple(one.request for one in waiting)
            assert process.stdin is not None
            process.stdin.write(messages.pack(messages.Batch(requests, unavailable)))
            body = await self._receive(process, self._limits.batch_timeout_seconds, "answer")
            reply = messages.decode_reply(body)
            if reply.error is None and len(reply.answers) != len(waiting):
                raise ModelError(f"the engine gave {len(reply.answers)} answers to {len(waiting)} requests")
        except BaseException as error:
            _fail(waiting, str(error) or type(error).__name__)
            raise
        if reply.error is not None:
            _fail(waiting, reply.error)
            return
        for one, answer in zip(waiting, reply.answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    async def _receive(self, process: Process, timeout_seconds: float, task: str) -> bytes:
        assert process.stdout is not None
        try:
            return await asyncio.wait_for(messages.read_async(process.stdout), timeout_seconds)
        except TimeoutError:
            raise ModelError(f"the engine process {process.pid} did not {task} within {timeout_seconds:g} s") from None
        except asyncio.IncompleteReadError:
            status = await process.wait()
            raise ModelError(f"the engine process {process.pid} ended with status {status}") from None

    async def _end_process(self) -> None:
        self._settled.clear()
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS if self._error is None else 0.0)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _fail_waiting(self, reason: str) -> None:
        waiting = []
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        _fail(waiting, reason)


def _fail(waiting: list[_Waiting], reason: str) -> None:
    for one in waiting:
        if not one.answer.done():
            one.answer.set_exception(ModelError(reason))
