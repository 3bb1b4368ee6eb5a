"""A real server in its own process, as `asterism serve` starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

TESTS = Path(__file__).parents[1]
ENGINE = "serving.small_market:load_engine"
START_SECONDS = 240.0
STOP_SECONDS = 120.0
RUN_SECONDS = 180.0  # of a command that ends by itself
PATIENT_MS = "30000"  # so that on a busy machine too it is the model that answers, where a test does not say otherwise


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from asterism.cli import main; main()", "serve", *arguments]


def environment() -> dict[str, str]:
    paths = [str(TESTS), str(TESTS.parent / "src")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may lie about until somebody asks for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)


class Server:
    """Starts a server over a bundle, and ends it at the end of a `with`."""

    def __init__(self, bundle: Path, state: Path, *more: str, log: Path | None = None) -> None:
        patience = () if "--deadline-ms" in more else ("--deadline-ms", PATIENT_MS)
        places = ("--bundle", str(bundle), "--state", str(state), "--port", "0", "--engine", ENGINE)
        self.run_folder = state / "run"
        self._log = (log or state.parent / "server.log").open("ab")
        self.process = subprocess.Popen(
            command(*places, *patience, *more), stdout=subprocess.PIPE, stderr=self._log, env=environment(), text=True
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.first_line)
        assert found, f"no address in {self.first_line!r}; see {self._log.name}"
        self.http = httpx.Client(base_url=found[0], timeout=RUN_SECONDS)

    def __enter__(self) -> Server:
        try:
            self.wait_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self) -> None:
        wait_until(lambda: self.http.get("/readyz").status_code == 200)

    def engine_figures(self) -> dict[str, Any]:
        """What the gateway heard of the engine's work last; it hears of it twice a second."""
        return dict(self.http.get("/readyz").json()["data"]["engine"]["figures"])

    def wait_deaf(self) -> None:
        """Return once nobody listens at the port any more."""
        place = (self.http.base_url.host, self.http.base_url.port or 80)

        def is_deaf() -> bool:
            try:
                socket.create_connection(place, timeout=60).close()
            except ConnectionRefusedError:
                return True
            except OSError:  # it was closed in this very moment
                pass
            return False

        wait_until(is_deaf)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(STOP_SECONDS)
        self.http.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return status

    def pid_of(self, process: str) -> int:
        """The number of the gateway, the engine or the worker, as it is just now."""
        return int((self.run_folder / f"{process}.pid").read_text())

    def engine_pid(self) -> int:
        """The number of the process that holds the model."""
        return int(self.http.get("/readyz").json()["data"]["engine"]["pid"])

    def recommend(self, user_id: str, **more: Any) -> dict[str, Any]:
        answer = self.http.post("/api/v1/recommend", json={"user_id": user_id, **more}).json()
        assert answer["code"] == 0, answer
        return dict(answer["data"])

    def feedback(self, user_id: str, item_id: str, action: str = "click", **more: Any) -> dict[str, Any]:
        body = {"user_id": user_id, "item_id": item_id, "action": action, **more}
        answer = self.http.post("/api/v1/feedback", json=body).json()
        assert answer["code"] == 0, answer
        return dict(answer["data"])


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]
