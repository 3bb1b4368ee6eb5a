"""The benchmark of a language model's training runs, and counts the work of a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_training import forward_flops
from models.small_llm import make_llm, make_shape

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "llm_training.py"
SIZES = {
    "width": 32, "layers": 2, "heads": 2, "key-value-heads": 1, "feed-forward": 48, "vocabulary": 900, "items": 50,
    "codes": 16, "users": 4, "events": 5, "batch-tokens": 64, "group": 3, "steps": 2, "product": 64,
}  # fmt: skip


def test_the_last_line_tells_of_both_kinds_of_step() -> None:
    options = [word for name, size in SIZES.items() for word in (f"--{name}", str(size))]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--peak-tflops", "0.0001"],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == "llm_training"
    for kind in ("supervised", "grpo"):
        row = found[kind]
        assert row["step_ms"] > 0
        assert row["mfu"] > 0
        assert row["mfu"] * 0.0001 == pytest.approx(
            row["share_of_product"] * found["product_tflops"], rel=0.1, abs=1e-4
        )


def test_the_work_of_a_token_by_hand() -> None:
    model = make_llm(make_shape(family="qwen2", width=32, heads=4, key_value_heads=2, feed_forward=48, layers=2))
    # Queries and outputs 32 x 32, keys and values 32 x 16, all but outputs with a bias; 3 of 32 x 48; two norms.
    layer = 2 * 32 * 32 + 32 + 2 * (32 * 16 + 16) + 3 * 32 * 48 + 2 * 32
    assert forward_flops(model, 7, 10) == 7 * (2 * 2 * layer + 4 * 2 * 32 * 10)
