"""The cascade's benchmark on a real bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cascade.py"


def test_quality_and_cost_are_told_for_every_pair_of_widths(bundle: Path, tmp_path: Path) -> None:
    sizes = ["--generated", "10", "60", "--kept", "20", "--cases", "80", "--requests", "12", "--rounds", "2"]
    command = [sys.executable, str(SCRIPT), str(bundle), *sizes, "--plot", str(tmp_path / "cascade.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == "cascade"
    assert 0 < found["cases"] <= 80
    points = {(one["generated"], one["kept"]): one for one in found["points"]}
    assert list(points) == [(10, 0), (60, 0), (60, 20)]
    for one in points.values():
        assert 0.0 < one["ndcg_at_10"] <= one["target_left"] <= 1.0
        assert 0.0 < one["batched_us"] < one["alone_us"]
    assert points[10, 0]["target_left"] < points[60, 0]["target_left"]
    assert points[60, 20]["target_left"] < points[60, 0]["target_left"]
    assert (tmp_path / "cascade.png").stat().st_size > 10_000
