"""One process of a deployment, from its first start to its end: probed, started again, its output labelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TextIO

from asterism.serving.supervisor.probes import PROBE_SECONDS, Probe
from asterism.serving.supervisor.run_folder import RunFolder

#: What a process ends with that says a sentence and gives up: it would do so again.
REFUSED_STATUS: Final = 2
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 10.0
_HEALTHY_AFTER_SECONDS: Final = 30.0
_PROBE_EVERY_SECONDS: Final = 1.0
_PROBE_AGAIN_SECONDS: Final = 4.0  # three times that is longer than a process may take to drain
_PROBES_FAILED: Final = 3  # in a row; a process that is only busy answers one of them
_LAST_WORDS_SECONDS: Final = 1.0
_LINE_BYTES: Final = 1 << 20
#: What one ends with whom a stop reached directly, as Ctrl-C does who has not left the supervisor's group yet.
_STOPPED_STATUSES: Final = (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What is started, and how it is asked whether it lives."""

    name: str
    command: tuple[str, ...]
    probe: Probe | None = None  # without one it counts as healthy while it runs
    pass_fds: tuple[int, ...] = ()
    speaks: bool = False  # its stdout is the user's as it stands; else its lines are labelled, as those of stderr are
    stop_seconds: float = 15.0  # after which it is killed
    follows: str | None = None  # the one that is to be ready before this is started, whose start it would slow down


class Child:
    """For one event loop."""

    def __init__(self, spec: ChildSpec, folder: RunFolder) -> None:
        self.name = spec.name
        self._spec = spec
        self._folder = folder
        self._process: Process | None = None
        self._retired = asyncio.Event()  # this life is its last
        self._stopping = asyncio.Event()  # and has been asked to end
        self._is_hurried = False  # it is killed rather than asked
        self.was_ready = asyncio.Event()

    async def keep(self, after: asyncio.Event | None = None) -> int:
        """Start it, where given after something, again and again until it retires or is stopped.

        Returns 0, or the status of one that refused before it ever was ready.
        """
        if after is not None:
            await self._unless_retired(after.wait())
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not self._retired.is_set():
            started = time.monotonic()
            try:
                status = await self._live()
                what = f"ended with status {status}"
            except OSError as error:  # no memory or no room for another process just now
                status, what = None, f"cannot be started ({error.strerror})"
            if self._retired.is_set():
                if not self._stopping.is_set() and status not in _STOPPED_STATUSES:
                    logger.warning("the %s %s while the service stops", self.name, what)
                break
            if status == REFUSED_STATUS and not self.was_ready.is_set():
                return status
            if time.monotonic() - started > _HEALTHY_AFTER_SECONDS:
                pause_seconds = _FIRST_PAUSE_SECONDS
            logger.error("the %s %s; it is started again in %g s", self.name, what, pause_seconds)
            await self._unless_retired(asyncio.sleep(pause_seconds))
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        return 0

    def retire(self) -> None:
        """Let it live on until it is stopped, and do not start it again."""
        self._retired.set()

    def stop(self) -> None:
        """Ask it to finish, and kill it where that takes too long."""
        self._retired.set()
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            asyncio.get_running_loop().call_later(self._spec.stop_seconds, self._kill, self._process)

    def kill(self) -> None:
        """End it at once."""
        self._is_hurried = True
        self._retired.set()
        self._stopping.set()
        if self._process is not None:
            self._kill(self._process)

    async def _unless_retired(self, waiting: Coroutine[Any, Any, Any]) -> None:
        tasks = {asyncio.ensure_future(waiting), asyncio.ensure_future(self._retired.wait())}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in tasks:
            one.cancel()

    async def _live(self) -> int:
        """One life of the process; its exit status."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._spec.command,
            stdin=PIPE,  # the lifeline: it ends when this process does
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_BYTES,
            process_group=0,  # Ctrl-C is for the supervisor, which stops its children in order
            pass_fds=(*self._spec.pass_fds, self._folder.lock),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        if self._stopping.is_set():  # it was said while there was no process yet to hear it
            (self.kill if self._is_hurried else self.stop)()
        self._folder.note_pid(self.name, process.pid)
        assert process.stdout is not None
        assert process.stderr is not None
        said = asyncio.gather(
            _forward(process.stdout, sys.stdout if self._spec.speaks else sys.stderr, self._label(self._spec.speaks)),
            _forward(process.stderr, sys.stderr, self._label(False)),
        )
        probing = asyncio.create_task(self._probe(process))
        try:
            return await process.wait()
        finally:
            probing.cancel()
            self._folder.forget_pid(self.name)
            with contextlib.suppress(TimeoutError):  # a process of its own may hold its stderr for a moment longer
                await asyncio.wait_for(said, _LAST_WORDS_SECONDS)

    def _label(self, speaks: bool) -> str:
        return "" if speaks else f"{self.name} | "

    async def _probe(self, process: Process) -> None:
        if self._spec.probe is None:
            await asyncio.sleep(PROBE_SECONDS)
            self.was_ready.set()
            return
        was_ready, failed = False, 0  # in this life
        while failed < _PROBES_FAILED and not self._stopping.is_set():
            await asyncio.sleep(_PROBE_EVERY_SECONDS if self.was_ready.is_set() else _FIRST_PAUSE_SECONDS)
            try:
                is_ready = await asyncio.wait_for(self._spec.probe(), PROBE_SECONDS)
            except Exception:  # whatever it is, it is no answer
                failed += was_ready  # before that it is starting, or giving up, which may take long
                await asyncio.sleep(_PROBE_AGAIN_SECONDS if was_ready else 0.0)  # it may be finishing
                continue
            was_ready, failed = was_ready or is_ready, 0
            if is_ready:
                self.was_ready.set()
        if not self._stopping.is_set():
            logger.error("the %s does not answer any more", self.name)
            self._kill(process)

    @staticmethod
    def _kill(process: Process) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def _forward(source: asyncio.StreamReader, target: TextIO, label: str) -> None:
    """Line by line, so that the lines of several processes do not mix."""
    while True:
        try:
            line = await source.readline()
        except ValueError:  # longer than any line should be
            continue
        if not line:
            return
        with contextlib.suppress(OSError):  # who listened has gone; the service goes on
            own = "" if line.startswith(b"{") else label  # a record in JSON says itself whose it is
            target.write(f"{own}{line.decode(errors='replace')}")
            target.flush()


def command_of(*arguments: str) -> tuple[str, ...]:
    """The command line of `asterism serve …` in a process of its own."""
    return (sys.executable, "-m", "asterism", "serve", *arguments)
