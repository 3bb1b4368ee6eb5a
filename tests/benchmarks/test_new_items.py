"""The benchmark of later items runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "new_items.py"


def test_the_last_line_tells_latencies_and_stability() -> None:
    sizes = {"tables": 300, "items": 20, "batch": 200, "width": 8, "codes": 16, "tree-items": 400}
    small = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, *small], capture_output=True, text=True, env=env, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == "new_items"
    for method in ("rq-kmeans", "balanced-rq-kmeans", "rq-vae"):
        timings = found["tables"]["300"][method]
        assert 0.0 < timings["one_item_p50_ms"] <= timings["one_item_p99_ms"]
        assert timings["one_item_cpu_p50_ms"] < 500.0
    assert set(found["stability"]["rq-kmeans"]) == {"other_seed", "more_items", "other_vectors"}
    for refit in found["stability"]["rq-kmeans"].values():
        assert refit["like"]["first"] <= refit["renamed"]["first"] + 0.02 <= refit["anew"]["first"] + 0.04
        assert 0.0 < refit["error_like"] < 1.0
