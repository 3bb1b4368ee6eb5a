"""`STATE/run`: who runs on a state, by which number, and the sockets between them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final

from asterism.core.errors import StorageError
from asterism.serving.grpc.addresses import socket_in

_PATIENCE_SECONDS: Final = 3.0  # the processes of a supervisor that was killed end by themselves

logger = logging.getLogger(__name__)


def engine_address(state: Path) -> str:
    """Where the engine of a state listens, unless it is told otherwise."""
    return socket_in(state / "run", "engine.sock")


def gateway_address(state: Path) -> str:
    """Where the gateway of a state answers other processes."""
    return socket_in(state / "run", "gateway.sock")


class RunFolder:
    """Held by one supervisor and its children: as long as one of them lives, no other supervisor gets it."""

    def __init__(self, state: Path) -> None:
        """Make and take the folder; raises `StorageError` where another service runs on this state."""
        self.path = state / "run"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written to ({error.strerror}); name another place with --state"
            ) from error
        self._take(state)

    def note_pid(self, name: str, pid: int) -> None:
        """Write down the number of a process, in place of the one before it; a failure is told in the log."""
        fresh = self.path / f"{name}.pid.new"
        try:
            fresh.write_text(f"{pid}\n", encoding="ascii")
            fresh.replace(self.path / f"{name}.pid")
        except OSError as error:
            logger.error("%s does not tell the number of the %s: %s", self.path, name, error.strerror)

    def forget_pid(self, name: str) -> None:
        """The process is gone."""
        with contextlib.suppress(OSError):
            (self.path / f"{name}.pid").unlink()

    def close(self) -> None:
        """Let another supervisor have it."""
        os.close(self.lock)

    def _take(self, state: Path) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > end:
                os.close(self.lock)
                raise StorageError(f"{state} is in use by another process; stop it, or name another place with --state")
            time.sleep(0.05)
