"""`asterism serve` as an operator starts it, for as long as something is measured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(bundle: Path, state: Path, options: Sequence[str] = ()) -> Iterator[tuple[tuple[str, int], int]]:
    """`asterism serve` until the model answers: its address and the supervisor's process number."""
    command = [sys.executable, "-m", "asterism", "serve", "--bundle", str(bundle), "--state", str(state), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    assert process.stdout is not None
    lines: list[str] = []
    found = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            if "http://" in line:
                found.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        if not found.wait(60):
            raise SystemExit(f"the service did not start: {''.join(lines)}")
        host, port = re.search(r"http://([^:/]+):(\d+)", "".join(lines)).groups()  # type: ignore[union-attr]
        wait_ready(f"http://{host}:{port}/readyz")
        yield (host, int(port)), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_ready(url: str, patience_seconds: float = 120.0) -> None:
    """Return once the model answers."""
    end = time.monotonic() + patience_seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    raise SystemExit("the model was not loaded in time")
