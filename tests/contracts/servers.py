"""Real servers for the suites: started on private ports and folders, up in a second or two, ended with the session."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

_drawn = random.SystemRandom()  # two processes of one suite must not draw the same ports
BESIDE_PYTHON = Path(sys.executable).parent


def free_port() -> int:
    """A port that nobody holds just now, below those that the kernel gives to connections."""
    while not is_free(port := _drawn.randrange(20_000, 32_000)):
        pass
    return port


def is_free(port: int) -> bool:
    """Whether nobody holds a port just now."""
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def program(name: str, *folders: Path) -> Path | None:
    """A program by its name: in these folders, on the path, or beside Python."""
    for folder in (*folders, BESIDE_PYTHON):
        if (folder / name).is_file():
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


def children_of(pid: int) -> set[int]:
    """The processes that one started, those that ended unheard among them; not every kernel lists them under it."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just gone
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(status.parent.name))
    return found


class ServerProcess:
    """A server in a process group of its own; `kill` is kill -9, `freeze` leaves it alive and deaf."""

    def __init__(
        self, command: Sequence[str | Path], answers: Callable[[], Any], log: Path, user: str | None = None
    ) -> None:
        self._command = [str(one) for one in command]
        self._answers = answers
        self._log = log
        self._user = user
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, user=self._user
            )
        deadline = time.monotonic() + 240
        while True:
            try:
                self._answers()
                return
            except Exception as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError(
                        f"{self._command[0]} did not come up ({error}):\n{self._log.read_text()[-2000:]}"
                    ) from error
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, the whole group."""
        self._signal(signal.SIGKILL)
        self.process.wait(60)

    def freeze(self) -> None:
        """Stop it where it stands: its port stays open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def connects(port: int) -> Callable[[], None]:
    """Whether a port is listened on."""

    def check() -> None:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()

    return check
