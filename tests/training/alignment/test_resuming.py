"""An alignment that was cut off goes on to the same weights; Ctrl-C keeps what is best by then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import AlignmentConfig
from asterism.core.errors import TrainingError
from asterism.training.alignment.checkpoint import CHECKPOINT_FILE
from asterism.training.alignment.dpo import DirectPreference
from asterism.training.alignment.grpo import GroupRelative
from asterism.training.alignment.lessons import Method, TrainablePolicy
from asterism.training.alignment.loop import Steering, align
from asterism.training.alignment.outcome import LOG_FILE, AlignmentResult
from asterism.training.alignment.rewards import Drawn
from training.alignment.small_world import QUESTIONS, new_llm, new_policy, roller, settings

#: An epoch of 108 questions is eleven batches, with validations after the fourth, the eighth and the last.
CUT = {"epochs": 2, "batch_users": 10, "validations": 3, "dropout": True, "learning_rate": 0.01}
POLICIES: dict[str, Callable[[], TrainablePolicy]] = {"ugt": lambda: new_policy(dropout=0.3), "llm": new_llm}


class PowerCutError(Exception):
    """What ends a run as a killed process does: nothing of it is left but its files."""


def half_have_signal(drawn: Drawn) -> Tensor:
    there = torch.from_numpy(drawn.rows % 2 == 0)[:, None]
    return torch.where(there, drawn.items.float(), 0.0)


def method_of(name: str, policy: TrainablePolicy, config: AlignmentConfig) -> Method:
    if name == "dpo":
        return DirectPreference(policy, QUESTIONS, roller("codes"), config)
    return GroupRelative(policy, QUESTIONS, roller("codes"), half_have_signal, config, seed=0)


def run(
    folder: Path, name: str, which: str, end: Exception | type[BaseException] | None = None, at: int = 0, **more: bool
) -> tuple[list[Tensor], AlignmentResult]:
    """Align, steered by how far the weights have moved, until validation number `at` ends it."""
    policy = POLICIES[which]()
    config = settings(method=name, group=4, rollouts="sample", significance=1.0, **CUT)
    start, seen = [one.detach().clone() for one in policy.parameters()], []

    def validate(one: TrainablePolicy) -> NDArray[np.float64]:
        seen.append(1)
        if end is not None and len(seen) == at:
            raise end
        moved = sum(float((now.detach() - then).norm()) for now, then in zip(one.parameters(), start, strict=True))
        return np.full(4, moved)

    method = method_of(name, policy, config)
    result = align(policy, method, config, Steering(validate, folder, 0, lambda line: None), **more)
    return [one.detach().clone() for one in policy.parameters()], result


@pytest.mark.parametrize("at", [3, 4, 5])  # in the middle of an epoch, at its end, in the next one
@pytest.mark.parametrize(("name", "which"), [("grpo", "ugt"), ("dpo", "ugt"), ("grpo", "llm")])
def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(name: str, which: str, at: int, tmp_path: Path) -> None:
    whole, result = run(tmp_path / "whole", name, which)
    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", name, which, PowerCutError, at)
    with (tmp_path / "cut" / LOG_FILE).open("a") as stream:  # a line written just before the cut
        stream.write(json.dumps({"step": 999}) + "\n")
    resumed, again = run(tmp_path / "cut", name, which, resume=True)
    assert (again.steps, again.best_step, again.best_validation) == (
        result.steps,
        result.best_step,
        result.best_validation,
    )
    assert result.best_step > 0
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))
    logs = [(tmp_path / one / LOG_FILE).read_text().splitlines() for one in ("whole", "cut")]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 6


def test_ctrl_c_keeps_the_best_so_far_and_what_goes_on(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", "grpo", "ugt")
    kept, result = run(tmp_path / "cut", "grpo", "ugt", KeyboardInterrupt, 4)
    assert (result.interrupted, result.improved) == (True, True)
    assert result.stopped == "it was interrupted"
    assert 0 < result.best_step < result.steps
    assert not all(torch.equal(one, other) for one, other in zip(whole, kept, strict=True))
    resumed, result = run(tmp_path / "cut", "grpo", "ugt", resume=True)
    assert not result.interrupted
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_a_checkpoint_of_another_run_is_refused_and_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "dpo", "ugt")
    with pytest.raises(TrainingError, match="another configuration, seed or start, so it cannot be resumed"):
        run(tmp_path, "grpo", "ugt", resume=True)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"half")
    with pytest.raises(TrainingError, match=r"cannot be read .* align without --resume"):
        run(tmp_path, "grpo", "ugt", resume=True)
    (tmp_path / CHECKPOINT_FILE).unlink()
    told: list[str] = []
    policy, config = new_policy(), settings(epochs=1)
    steering = Steering(lambda one: np.ones(3), tmp_path, 0, told.append)
    align(policy, method_of("dpo", policy, config), config, steering, resume=True)
    assert told[0] == f"there is no checkpoint in {tmp_path}; alignment starts anew"


def test_what_must_not_fall_holds_weights_back(tmp_path: Path) -> None:
    policy, config = new_policy(), settings(epochs=3, significance=1.0, validations=1)
    floors, worths = iter([0.5, 0.6, 0.4, 0.4, 0.5, 0.5]), iter([1.0, 2.0, 3.0, 1.5])
    held: list[float] = []

    def floor() -> float:
        held.append(next(floors))
        return held[-1]

    steering = Steering(lambda one: np.full(3, next(worths)), tmp_path, 0, lambda line: None, floor=floor)
    result = align(policy, method_of("dpo", policy, config), config, steering)
    assert (result.best_validation, result.best_step) == (2.0, result.steps // 3)
