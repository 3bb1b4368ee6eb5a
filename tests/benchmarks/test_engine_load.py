"""The benchmark of the engine runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def measured() -> dict[str, Any]:
    small = ["--seconds", "0.6", "--items", "300", "--deadline-ms", "2000", "--clients", "4", "--loads", "0.5", "20"]
    small += ["--turns", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    script = ROOT / "benchmarks" / "engine_load.py"
    done = subprocess.run([sys.executable, script, *small], capture_output=True, text=True, env=env, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_last_line_tells_what_became_of_every_request() -> None:
    for _ in range(3):  # a machine that stands still for a second may measure half the capacity
        found = measured()
        check(found)
        half, twenty_times = found["rows"]
        if half["shed"] == 0 and twenty_times["shed"] > 0:
            return
    pytest.fail(f"in none of three runs was half the capacity answered and twenty times as much refused: {found}")


def check(found: dict[str, Any]) -> None:
    """What holds on any machine, however its load is scheduled."""
    assert (found["benchmark"], found["threads_per_engine"], found["engines"]) == ("engine_load", 1, 1)
    assert len(found["capacities"]) == 2
    assert min(found["capacities"]) > 0
    assert found["widths"][0] == 20
    assert [row["share"] for row in found["rows"]] == [0.5, 20.0]
    for row in found["rows"]:
        ends = sum(row[name] for name in ("answered", "answered too late", "shed", "late", "failed"))
        assert ends == row["requests"] > 0
        assert len(row["p99_by_turn_ms"]) == 2
        assert row["hanging"] == row["failed"] == 0
        if row["p50_ms"] is not None:
            assert row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert len(row["rss_mb_before"]) == len(row["rss_mb_after"]) == 2
