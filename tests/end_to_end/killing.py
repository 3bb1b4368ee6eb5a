"""Runs that are killed in their middle, as a machine that loses power does."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from command_line import environment

_PATIENCE_SECONDS = 900.0


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
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as child:
        try:
            while True:
                has_ended = child.poll() is not None  # looked at first: its last lines come before its end
                if _lines(log) >= lines:
                    break
                assert not has_ended, "the run ended without writing its log"
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            child.kill()


def _lines(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("\n") if log.is_file() else 0
