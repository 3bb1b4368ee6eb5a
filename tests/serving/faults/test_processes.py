"""Each process of the embedded service is killed while visitors ask and click."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.faults.deployment import Deployment
from serving.faults.load import Line, Load, answered, answered_by_model


@pytest.mark.parametrize(
    ("name", "most_errors"),
    [("gateway", 12), ("engine", 0), ("worker", 0)],  # a gateway takes with it what it was about to answer
)
def test_kill_9_of_a_process_loses_nothing(
    bundle: Path, tmp_path: Path, note: Callable[[Line], None], name: str, most_errors: int
) -> None:
    with Deployment(bundle, tmp_path) as running:
        before = running.pid(name)
        with Load(running.url) as load:
            load.wait_whole(0.0, answered_by_model)
            killed_at = running.kill(name)
            running.wait_restarted(name, before)
            load.wait_whole(time.monotonic(), answered_by_model)
        line = load.line(f"kill -9 of the {name}", killed_at, answered_by_model)
        note(line)
        assert line.errors <= most_errors, [one for one in load.outcomes if not answered(one)]
        running.check_books(load)
