"""The benchmark of the cached read path runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_last_line_tells_every_way_and_stage() -> None:
    small = {"items": 300, "users": 40, "rounds": 1, "seconds": 0.3, "connections": 2, "calls": 20}
    options = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    script = ROOT / "benchmarks" / "hot_path.py"
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, env=env, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["benchmark"], found["users"]) == ("hot_path", 40)
    assert list(found["ways"]) == ["asterism", "without_lane", "fastapi", "before", "redis_list"]
    for way in found["ways"].values():
        assert way["cpu_us"] > 0
        assert way["per_second"] > 0
    whole = found["stages_us"]["application, whole"]
    assert whole > found["stages_us"]["decode the body"] > 0
    assert found["answer_bytes"] > 4000
