"""The benchmark of semantic ids, on sizes that take seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "semantic_ids.py"


def test_the_last_line_is_json_and_keeps_its_promises() -> None:
    sizes = ["--items", "3000", "--width", "16", "--mixture-items", "2000", "--codes", "16", "--threads", "1"]
    command = [sys.executable, str(SCRIPT), "--only", "scale", "mixture", *sizes]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(finished.stdout.splitlines()[-1])
    plain, balanced = report["scale"]
    assert [one["method"] for one in report["scale"]] == ["rq-kmeans", "balanced-rq-kmeans"]
    assert max(balanced["largest_over_mean"]) <= 1.2 < max(plain["largest_over_mean"])
    assert 0.0 < plain["error_left"] < balanced["error_left"] < 1.0
    assert plain["peak_rss_gb"] > 0.1
    own, *peers = report["mixture"]
    for peer in peers:
        assert own["error_left"] <= 1.05 * peer["error_left"], "codes of equal bits leave about the same"
        assert peer["error_left"] < 1.0
