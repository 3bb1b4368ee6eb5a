"""The benchmark of the service over HTTP, at its smallest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_last_line_tells_capacity_latencies_and_memory() -> None:
    small = [
        "--items",
        "600",
        "--users",
        "120",
        "--cached-users",
        "20",
        "--seconds",
        "1",
        "--rate",
        "40",
        "--share",
        "0.3",
        "--turns",
        "2",
        "--cached-rates",
        "50",
    ]
    command = [sys.executable, str(ROOT / "benchmarks" / "serving.py"), *small]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr
    row = json.loads(ended.stdout.splitlines()[-1])
    assert row["processes"] == ["engine", "gateway", "model", "supervisor", "worker"]
    assert set(row["rss_mb"]) == set(row["processes"])
    steady = row["cached"]["steady"]
    assert steady["answered"] == steady["requests"] == steady["model"]
    assert len(row["cached"]["capacities"]) == 2
    assert row["cached"]["at_50"]["answered"] == row["cached"]["at_50"]["cached"] == 50
    assert row["cached"]["closed"]["cached"] == row["cached"]["closed"]["answered"] > 0
    mixed = row["mixed"]
    assert set(mixed["kinds"]) == {"cached", "fresh", "feedback"}
    assert sum(one["requests"] for one in mixed["kinds"].values()) == mixed["requests"] == 40
    assert (mixed["answered"], mixed["hanging"], mixed["error_share"]) == (40, 0, 0.0)
    for one in mixed["kinds"].values():
        assert 0 < one["p50_ms"] <= one["p99_ms"] <= one["max_ms"]
