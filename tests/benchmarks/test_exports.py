"""The benchmark of the exports runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "exports.py"


def test_the_last_line_compares_both_runtimes() -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    small = ["--items", "300", "--batches", "1", "3", "--repeats", "1"]
    done = subprocess.run([sys.executable, SCRIPT, *small], capture_output=True, text=True, env=env, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["benchmark"], found["items"]) == ("exports", 300)
    assert list(found["results"]) == ["encoder", "generate", "rescored", "rank"]
    for by_batch in found["results"].values():
        assert list(by_batch) == ["1", "3"]
        for one in by_batch.values():
            assert one["same"] == 1.0, "both answer the same"
            assert 0.0 < one["onnxruntime_ms"] < 1e4
            assert 0.0 < one["torch_ms"] < 1e4
