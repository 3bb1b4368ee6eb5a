"""The benchmark of decoding runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "decoding_speed.py"
NAMES = {
    "products",
    "reference fp32",
    "reference bf16",
    "fp32",
    "bf16",
    "bf16 encode",
    "bf16 search",
    "bf16 repeating",
    "bf16 returning",
    "bf16 returning encode",
    "int8",
}


def test_the_last_line_tells_of_every_batch_size_and_form() -> None:
    shape = ["--width", "16", "--blocks", "2", "--events", "6", "--beam", "4", "--items", "500"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, *shape, "--batches", "2", "1", "--rounds", "2", "--requests", "2"],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["benchmark"], found["threads"], found["width"]) == ("decoding_speed", 1, 16)
    assert list(found["by_batch"]) == ["2", "1"]
    for batch in found["by_batch"].values():
        assert set(batch) == NAMES
        for figures in batch.values():
            assert 0 < figures["least_us"] <= figures["median_us"]
            assert figures["requests_a_second"] * figures["median_us"] == pytest.approx(1e6, rel=0.01)
        assert batch["products"]["least_us"] < batch["reference fp32"]["least_us"]
