"""The benchmark of roll-outs runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rollouts.py"
SMALL = ["--rounds", "2", "--users", "2", "--events", "3", "--beams", "5", "--items", "60", "--codes", "8"]


def test_the_last_line_tells_of_a_step_and_of_both_sides(tmp_path: Path) -> None:
    model = tmp_path / "model"
    options = [*SMALL, "--vocabulary", "600", "--width", "32", "--layers", "1", "--save", str(model)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, env=env, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["benchmark"], found["users"], found["beams"]) == ("rollouts", 2, 5)
    assert found["rollouts"]["items_in_common"] >= 0.8
    assert found["rollouts"]["ours_cpu_seconds"] > 0
    assert min(found["steps"][name] for name in ("rollout_cpu_seconds", "step_cpu_seconds", "rollout_share")) > 0
    about = json.loads((model / "rollouts.json").read_text())
    assert len(about["prompts"]) == 2
    assert (model / "config.json").is_file()
