"""The benchmark of decoding runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from decoding_parts.language_model import SPECIALS, LanguageModel
from decoding_parts.rounds import summary
from decoding_parts.sweeps import MOST_PAIRS, WINDOWS, points
from decoding_parts.world import CODES, LEVELS, Shape, World

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "decoding.py"
SMALL = Shape(width=16, blocks=2, events=6, beam=4, items=500)
SHAPE = ["--width", "16", "--blocks", "2", "--events", "6", "--beam", "4", "--items", "500"]
FORMS = {
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


def run(*options: str) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, *SHAPE, *options], capture_output=True, text=True, env=env, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (found["benchmark"], found["threads"], found["width"]) == ("decoding", 1, 16)
    return found


def test_the_last_line_tells_of_every_form_and_side() -> None:
    found = run(
        *["--only", "forms", "beside", "--batches", "2", "1", "--rounds", "2", "--requests", "2"],
        *["--slow-rounds", "1", "--vocabulary", "1000"],
    )
    assert list(found["forms"]) == ["2", "1"]
    for batch in found["forms"].values():
        assert set(batch) == FORMS
        for figures in batch.values():
            assert 0 < figures["least_us"] <= figures["median_us"]
            assert figures["requests_a_second"] * figures["median_us"] == pytest.approx(1e6, rel=0.05)
        assert batch["products"]["least_us"] < batch["reference fp32"]["least_us"]
    beside = found["beside"]
    assert list(beside["by_batch"]) == ["1", "2"]
    assert set(beside["share_in_catalogue"].values()) == {1.0}
    best = {side: one["requests_a_second"] for side, one in beside["best"].items()}
    fastest = max(
        batch[form]["requests_a_second"] for batch in beside["by_batch"].values() for form in ("fp32", "bf16")
    )
    assert best["engine"] == fastest
    for side, times in beside["engine_is_faster"].items():
        assert times == pytest.approx(best["engine"] / best[side], abs=0.01)
    assert len(beside["engine_is_faster"]) == 3


def test_the_last_line_tells_of_a_device() -> None:
    small = ["--device-shapes", "reference", "--device-batches", "1", "4", "--device-seconds", "0.1"]
    found = run("--only", "device", "--on", "cpu", *small)["device"]
    assert found["device"] == "cpu, 1 thread"
    assert [(one["shape"], one["batch"]) for one in found["rows"]] == [("reference", 1), ("reference", 4)]
    for one in found["rows"]:
        told = one["told"]
        assert 0 < told["p50_ms"] <= told["p99_ms"]
        assert told["requests_per_second"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_last_line_says_so() -> None:
    assert run("--only", "device")["device"] == "torch finds no CUDA device"


def test_the_last_line_tells_of_the_constraint_and_of_every_point(tmp_path: Path) -> None:
    found = run(
        *[
            "--only",
            "constraint",
            "sweeps",
            "--constrained-items",
            "300",
            "--repeats",
            "2",
            "--plot",
            f"{tmp_path}/a.png",
        ],
        *["--catalogue-values", "300", "--batch-values", "2", "--beam-values", "--history-values"],
    )
    step = found["constraint"]["by_catalogue"]["300"]
    assert (found["constraint"]["beam"], len(step["constraint_us_by_level"])) == (50, LEVELS + 1)
    assert min(step["constraint_us_by_level"]) <= step["constraint_us_a_step"] <= max(step["constraint_us_by_level"])
    assert [(one["sweep"], one["value"], one["batch"]) for one in found["sweeps"]] == [
        ("batch", 2, 2),
        ("catalogue", 300, 1),
        ("catalogue", 300, 32),
    ]
    for one in found["sweeps"]:
        assert 0 < one["least_us"] <= one["median_us"] < 1e6
        assert 1 < one["held_mb"] <= one["building_mb"]
        assert one["working_mb"] >= 0
    assert 2 < found["sweeps"][1]["trie_mb"] < 10
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_language_model_generates_items_and_each_once() -> None:
    model = LanguageModel(World(SMALL), CODES * LEVELS + SPECIALS, torch.float32)
    found = model.requests(3)()
    assert isinstance(found, torch.Tensor)
    assert found.shape == (3 * SMALL.beam, LEVELS)
    assert model.share_in_catalogue(found) == 1
    for user in found.view(3, SMALL.beam, LEVELS):
        assert len({tuple(path) for path in user.tolist()}) == SMALL.beam
    found = torch.cat([found[:1].flip(1), found[1:]])  # the first has codes of the wrong levels
    assert model.share_in_catalogue(found) == pytest.approx(1 - 1 / len(found))


def test_points_leave_out_what_memory_cannot_hold_and_windows_that_would_be_empty() -> None:
    values = {"batch": [4], "catalogue": [100], "beam": [7], "history": [50, 58, 2000]}
    found = {(one.sweep, one.value, one.batch): one.shape for one in points(values, SMALL)}
    assert MOST_PAIRS < 32 * 2000**2
    assert ("history", 2000, 1) in found
    assert ("history", 2000, 32) not in found
    assert ("history in windows", 50, 1) not in found
    assert found["history in windows", 58, 1].summaries == WINDOWS
    assert found["catalogue", 100, 32].items == 100
    assert found["beam", 7, 1] == SMALL._replace(beam=7)


def test_histories_in_windows_leave_the_newest_events_as_tokens() -> None:
    histories = World(SMALL._replace(events=90, summaries=WINDOWS)).histories(3)
    assert histories.items.shape == (3, SMALL.newest)
    assert histories.older is not None
    assert histories.older.counts.sum(dim=1).tolist() == [90 - SMALL.newest] * 3


def test_a_summary_is_the_median_and_the_least() -> None:
    assert summary([4e-3, 1e-3, 2e-3]) == {
        "median_us": 2000.0,
        "least_us": 1000.0,
        "requests_a_second": 500.0,
        "at_best": 1000.0,
    }
