"""Runs that are killed in their middle, as a machine that loses power does."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from command_line import environment

_PATIENCE_SECONDS = 200.0


def killed_in_the_middle(command: Sequence[str], output: Path, log: Path, *, after: int, whole: int) -> None:
    """Leave a run as kill -9 leaves it once its log has `after` lines; undisturbed, the log would have `whole`."""
    for _ in range(5):  # on a busy machine a run may reach its end before the kill reaches it
        _kill_after(command, log, after)
        if _lines(log) < whole:
            assert not output.exists(), "a killed run must leave no bundle"
            return
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(log.parent)
    raise AssertionError("five runs ended before they could be killed")


def _kill_after(command: Sequence[str], log: Path, lines: int) -> None:
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while _lines(log) < lines:
            assert child.poll() is None, "the run ended without writing its log"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)


def _lines(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("\n") if log.is_file() else 0
