"""The benchmark of the engine runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_last_line_tells_what_became_of_every_request() -> None:
    small = ["--seconds", "1", "--items", "300", "--deadline-ms", "2000", "--clients", "4", "--loads", "0.5", "20"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    script = ROOT / "benchmarks" / "engine_load.py"
    done = subprocess.run([sys.executable, script, *small], capture_output=True, text=True, env=env, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["benchmark"], found["threads_per_engine"], found["engines"]) == ("engine_load", 1, 1)
    assert found["capacity"] > 0
    assert found["widths"][0] == 20
    assert [row["share"] for row in found["rows"]] == [0.5, 20.0]
    for row in found["rows"]:
        ends = sum(row[name] for name in ("answered", "answered too late", "shed", "late", "failed"))
        assert ends == row["requests"] > 0
        assert row["hanging"] == row["failed"] == 0
        assert row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert len(row["rss_mb_before"]) == len(row["rss_mb_after"]) == 2
    assert found["rows"][0]["shed"] == 0
    assert found["rows"][1]["shed"] > 0
