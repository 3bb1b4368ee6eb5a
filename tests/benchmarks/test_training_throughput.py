"""Training throughput is counted in trained positions, over whole steps, by each library's own loop."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import command_line
from asterism.config import TrainingConfig
from asterism.core.errors import AsterismError
from asterism.data.market import Market, MarketConfig
from worlds import leave_one_out

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "training_throughput.py"


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("training_throughput", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "training_throughput", module)  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_first_step_and_the_unfinished_last_one_are_left_out(throughput: ModuleType) -> None:
    clock = throughput.StepClock([1000, 20, 30, 7], wall=[0.0, 90.0, 92.0, 95.0], cpu=[0.0, 80.0, 84.0, 90.0])
    assert clock.take() == {"wall": 50 / 5.0, "cpu": 50 / 10.0, "events": 50, "steps": 2}
    with pytest.raises(AsterismError, match="0 steps were seen, which is too few to time; raise --steps"):
        clock.take()


def test_a_row_holds_the_median_of_rounds_and_their_spread(throughput: ModuleType) -> None:
    rounds = [{"wall": wall, "cpu": wall / 2, "events": 50, "steps": 2} for wall in (10.0, 400.0, 30.0)]
    assert throughput.summary(rounds) == {
        "events_per_second": 30,
        "slowest": 10,
        "fastest": 400,
        "events_per_cpu_second": 15,
        "events": 150,
        "steps": 6,
    }


def test_both_sides_count_positions_with_a_target(throughput: ModuleType) -> None:
    assert throughput.targets_in({"y": torch.tensor([[0, 0, 4], [0, 2, 2]])}) == 3
    last_two = [0, 0]  # validation and test
    histories = [[*row, *last_two] for row in ([1, 2, 3], [4], [5, 6], list(range(60)))]
    split = leave_one_out(histories, items=60)
    ours = throughput.OurTransformer(throughput.Work(split, 20, "fp32", 0), TrainingConfig(negatives=8))
    ours.train(0)
    assert ours.clock.events == [2 + 1 + 50], "one step of three users, the newest 50 targets of the longest"
    assert len(throughput.drawn_users(split.train, 2, 0)) == 2


def test_contenders_run_by_their_own_loops_and_a_missing_library_is_said(tmp_path: Path) -> None:
    Market.generate(MarketConfig(users=260, items=120, days=8)).save(tmp_path / "market")
    wanted = ["ugt_sampled", "ugt_full", "sasrec_full", "hstu_sampled"]
    settings = ["--steps", "4", "--rounds", "2", "--threads", "1", "--only", *wanted]
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path / "market"), *settings]
    done = subprocess.run(command, capture_output=True, text=True, env=command_line.environment(), check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [row["contender"] for row in found["rows"]] == wanted
    absent = importlib.util.find_spec("rectools") is None
    for row in found["rows"]:
        if row["contender"].startswith("ugt") or not absent:
            assert row["steps"] == 2 * 2
            assert row["slowest"] <= row["events_per_second"] <= row["fastest"]
        else:
            assert row["error"].startswith("No module named")
            assert row["error"].endswith("install what the head of training_throughput.py names")
