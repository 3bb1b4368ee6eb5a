"""The benchmark of the trie runs, and its last line is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trie.py"


def test_the_last_line_tells_of_every_catalogue_and_beam() -> None:
    small = ["--items", "300", "2000", "--beams", "3", "20", "--changes", "30", "--excluded", "40", "--repeats", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, *small], capture_output=True, text=True, env=env, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == "trie"
    assert list(found["catalogues"]) == ["300", "2000"]
    for one in found["catalogues"].values():
        assert one["sizes"][:3] == [256, 256, 256]
        assert 2.0 < one["memory_mb"] < 10.0
        for name in ("build_cpu_seconds", "insert_us", "remove_us", "load_cpu_seconds"):
            assert 0.0 < one[name] < 1e5
        assert list(one["beams"]) == ["3", "20"]
        for by_filter in one["beams"].values():
            assert set(by_filter) == {"none", "excluded", "excluded_and_half"}
            for step in by_filter.values():
                levels = step["constraint_us_by_level"]
                assert len(levels) == 4
                assert min(levels) <= step["constraint_us_a_step"] <= max(levels)
