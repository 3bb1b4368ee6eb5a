"""Weights cut over two processes learn what whole ones do, and a launch for another engine is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from asterism.core.errors import TrainingError
from asterism.training.averaging import WeightAverage
from asterism.training.launches import wanted_cut
from command_line import environment

RUNS = Path(__file__).with_name("cut_runs.py")
TESTS = RUNS.parents[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a launch of two processes printed of all its runs."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    paths = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    env = environment(PYTHONPATH=paths, CUDA_VISIBLE_DEVICES="")
    folder = tmp_path_factory.mktemp("cut")
    done = subprocess.run(
        [*launcher, str(RUNS), str(folder)], capture_output=True, text=True, env=env, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("cut", ["layers", "moments"])
@pytest.mark.parametrize("course", ["ugt", "llm full", "llm lora", "llm embeddings"])
def test_cut_weights_learn_as_whole_ones(found: dict[str, Any], course: str, cut: str) -> None:
    figures = found[course]
    assert figures["whole moved"] > 0.01
    assert figures[f"{cut} apart"] < 1e-3 * figures["whole moved"]
    assert figures["whole held"] == 1.0
    assert figures[f"{cut} held"] < 0.6, "a process holds its part alone"


def test_a_cut_run_goes_on_to_the_same_weights(found: dict[str, Any]) -> None:
    assert found["resumed"] < 1e-6


def test_processes_decide_by_one_clock_and_warm_up_by_steps(found: dict[str, Any]) -> None:
    one, other = found["agreed"]
    assert one["epochs"] == other["epochs"] > 0
    assert [one["warmed"], other["warmed"]] == pytest.approx([0, 0], abs=1e-6)


def test_alignment_cuts_the_moments(found: dict[str, Any]) -> None:
    figures = found["aligned"]
    assert figures["held"] < 0.7, "one process holds those of one of three parameters, the other of two"
    assert figures["apart"] < 1e-6
    assert figures["resumed apart"] < 1e-6


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, None),
        ({"ACCELERATE_USE_FSDP": "false"}, None),
        ({"ACCELERATE_USE_FSDP": "true"}, "layers"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_RESHARD_AFTER_FORWARD": "True"}, "layers"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_RESHARD_AFTER_FORWARD": "False"}, "moments"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_SHARDING_STRATEGY": "SHARD_GRAD_OP"}, "moments"),
    ],
)
def test_what_a_launch_asks_for(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: str | None) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wanted_cut() == wanted


@pytest.mark.parametrize(("variable", "name"), [("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")])
def test_another_engine_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, name: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "true")
    with pytest.raises(TrainingError, match=rf"this launch is for {name}.*use configs/distributed/zero3\.yaml"):
        wanted_cut()


def test_an_average_is_exchanged_by_content() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    average = WeightAverage(model, horizon=2)
    storage, start = model.weight.data_ptr(), model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(1)  # 1/11 of the start, by the warm-up
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), start + 10 / 11)
        assert model.weight.data_ptr() == storage
    torch.testing.assert_close(model.weight.detach(), start + 1.0)
