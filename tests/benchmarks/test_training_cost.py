"""The benchmark of a training step's cost, on sizes that take seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_cost.py"


def test_every_point_is_measured_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "cost.png"
    sizes = ["--events", "50", "600", "--items", "60000", "--steps", "1", "--plot", str(picture)]
    finished = subprocess.run([sys.executable, str(SCRIPT), *sizes], capture_output=True, text=True, check=True)
    report = json.loads(finished.stdout.splitlines()[-1])
    history = {(one["variant"], one["events"]): one for one in report["history"]}
    assert set(history) == {("one_by_one", 50), ("one_by_one", 600), ("windows", 600)}
    assert history["windows", 600]["peak_mb"] < history["one_by_one", 600]["peak_mb"]
    catalogue = {(one["variant"], one["items"]): one for one in report["catalogue"]}
    assert len(catalogue) == 4
    own, drawn = catalogue["own_vectors", 60000], catalogue["drawn", 60000]
    assert own["learned_millions"] == pytest.approx(drawn["learned_millions"] + 2 * 60_000 * 64 / 1e6, abs=0.02)
    # Two vectors an item, each with gradient and moments: 123 MB, of which an allocator's luck may hide many.
    assert own["peak_mb"] > drawn["peak_mb"] + 20
    assert all(one["cpu_ms"] > 0 for one in (*report["history"], *report["catalogue"]))
    assert picture.stat().st_size > 10_000
