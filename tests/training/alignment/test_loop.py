"""The loop: what it keeps, when it stops, and what it says when it cannot go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asterism.core.errors import TrainingError
from asterism.training.alignment.dpo import DirectPreference
from asterism.training.alignment.grpo import GroupRelative
from asterism.training.alignment.lessons import Figures, Lesson, Rows, TrainablePolicy
from asterism.training.alignment.loop import Steering, align
from asterism.training.alignment.outcome import LOG_FILE
from asterism.training.alignment.steering import ending
from command_line import environment
from training.alignment.small_world import QUESTIONS, new_policy, roller, settings


class Push:
    """A method that moves one parameter by a known gradient."""

    rows: Rows = np.arange(80)

    def __init__(self, kl: float = 0.0, loss: float = 1.0) -> None:
        self.kl, self.loss = kl, loss

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        for _ in batches:
            total = self.loss * next(iter(policy.parameters())).sum()
            yield Lesson(total, 1.0, Figures(0.0, 1.0, self.kl, 0.0))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def weights_of(policy: TrainablePolicy) -> list[torch.Tensor]:
    return [one.detach().clone() for one in policy.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


CURVE = [0.5, 0.6, 0.7, 0.9, 0.4, 0.3, 0.2]  # the start, then each validation


def follow(curve: list[float], spread: float, tmp_path: Path, **changes: object):  # type: ignore[no-untyped-def]
    """Align with validations as given; the noise of cases is `spread`, the same in each validation or not."""
    policy, seen = new_policy(), []
    noise = np.random.default_rng(0)

    def validate(one: TrainablePolicy) -> np.ndarray:  # type: ignore[type-arg]
        seen.append(weights_of(one))
        return curve[len(seen) - 1] + spread * noise.normal(size=50)

    config = settings(**{"epochs": 2, "batch_users": 10, "validations": 4, "patience": 3} | changes)
    told: list[str] = []
    result = align(policy, Push(), config, Steering(validate, tmp_path, 0, told.append))
    return policy, seen, result, told


def test_the_best_weights_are_the_result_and_patience_ends_it(tmp_path: Path) -> None:
    policy, seen, result, _ = follow(CURVE, 0.0, tmp_path)
    assert (result.best_step, result.steps, result.improved) == (6, 12, True)
    assert result.stopped == "validation NDCG@10 has not risen for 3 validations"
    assert same(weights_of(policy), seen[3])
    assert not same(seen[3], seen[4])
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert [line["validation"] for line in lines] == pytest.approx(CURVE[1:])
    assert lines[0].keys() == {"step", "loss", "reward", "signal", "kl", "entropy", "validation", "seconds"}


def test_what_never_beats_the_start_leaves_it_as_it_was(tmp_path: Path) -> None:
    policy, seen, result, _ = follow([0.5, 0.5, 0.4, 0.3, 0.2], 0.0, tmp_path)
    assert (result.best_step, result.improved, result.p_value) == (0, False, 1.0)
    assert same(weights_of(policy), seen[0])
    assert not same(seen[0], seen[1])


def test_a_gain_within_the_noise_is_none(tmp_path: Path) -> None:
    policy, seen, result, _ = follow([0.5, 0.5001, 0.5, 0.4, 0.3, 0.2, 0.1], 0.3, tmp_path)
    assert result.p_value > 0.05
    assert not result.improved
    assert same(weights_of(policy), seen[0])


def test_a_divergence_or_a_loss_that_is_no_number_stops_it_with_a_sentence(tmp_path: Path) -> None:
    def steady(policy: TrainablePolicy) -> np.ndarray:  # type: ignore[type-arg]
        return np.ones(5)

    config = settings(max_kl=2.0)
    with pytest.raises(TrainingError, match=r"the divergence from the start became 3, above alignment\.max_kl 2"):
        align(new_policy(), Push(kl=3.0), config, Steering(steady, tmp_path, 0, print))
    with pytest.raises(TrainingError, match=r"the divergence from the start became nan"):
        align(new_policy(), Push(kl=float("nan")), config, Steering(steady, tmp_path, 0, print))
    with pytest.raises(TrainingError, match=r"loss became nan at step 0; lower alignment\.learning_rate \(now 0\.02\)"):
        align(new_policy(), Push(loss=float("nan")), config, Steering(steady, tmp_path, 0, print))


class RunsAway(Push):
    """Pushes until lesson `at`; there the loss, its gradient or the divergence is no longer what it should be."""

    def __init__(self, how: str, at: int) -> None:
        super().__init__()
        self.how, self.at, self.taken = how, at, 0

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        for lesson in super().lessons(policy, batches):
            self.taken += 1
            if self.taken < self.at:
                yield lesson
            elif self.how == "loss":
                yield lesson._replace(loss=lesson.loss * torch.nan)
            elif self.how == "gradient":
                yield lesson._replace(loss=lesson.loss + (0.0 * lesson.loss).sqrt())
            else:
                yield lesson._replace(figures=lesson.figures._replace(kl=3.0))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("loss", "it diverged: the loss became nan at step 5; lower alignment.learning_rate (now 0.02), or raise"),
        ("gradient", "it diverged: the gradient's length became nan at step 5; lower alignment.learning_rate"),
        ("kl", "it diverged: the divergence from the start became 3, above alignment.max_kl 2, at step 5; lower"),
    ],
)
@pytest.mark.parametrize("at", [6, 8])  # with the epoch going on, and its last lesson
def test_what_runs_away_after_a_gain_leaves_the_gain(how: str, said: str, at: int, tmp_path: Path) -> None:
    config = settings(batch_users=10, validations=4, max_kl=2.0, epochs=2)
    policy, seen, worths = new_policy(), [], iter([0.5, 0.6, 0.7, 0.65])

    def validate(one: TrainablePolicy) -> np.ndarray:  # type: ignore[type-arg]
        seen.append(weights_of(one))
        return np.full(50, next(worths))

    result = align(policy, RunsAway(how, at), config, Steering(validate, tmp_path, 0, print))
    assert result.stopped.startswith(said.replace("step 5", f"step {at - 1}"))
    assert (result.improved, result.best_step, result.steps) == (True, 4, at - 1)
    assert same(weights_of(policy), seen[2]), "those of the best validation"
    assert result.stopped in ending(result, 0.05)


def test_where_one_process_runs_away_all_stop_alike() -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    script = Path(__file__).with_name("runaway.py")
    paths = os.pathsep.join(filter(None, (str(script.parents[2]), os.environ.get("PYTHONPATH"))))
    env = environment(PYTHONPATH=paths, CUDA_VISIBLE_DEVICES="")
    done = subprocess.run([*launcher, str(script)], capture_output=True, text=True, env=env, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found[0] == found[1]
    assert found[0]["best_step"] == 2
    assert found[0]["stopped"].startswith("it diverged: the loss became nan at step 2")


def test_rewards_that_never_differ_are_an_error(tmp_path: Path) -> None:
    config = settings(method="grpo", group=4, epochs=1)
    method = GroupRelative(
        new_policy(), QUESTIONS, roller("served"), lambda drawn: torch.zeros(drawn.items.shape), config, seed=0
    )
    with pytest.raises(TrainingError, match=r"no group of any question had rewards that differ"):
        align(new_policy(), method, config, Steering(lambda one: np.ones(5), tmp_path, 0, print))


def test_no_pairs_are_an_error() -> None:
    with pytest.raises(TrainingError, match=r"there are no pairs for DPO: alignment\.rejected is 'logged'"):
        DirectPreference(new_policy(), QUESTIONS, roller("served"), settings(rejected="logged"))


def test_groups_without_signal_are_passed_over(tmp_path: Path) -> None:
    seen: list[int] = []
    config = settings(method="grpo", group=4, epochs=1, batch_users=20)

    def every_fourth(drawn):  # type: ignore[no-untyped-def]
        seen.extend(drawn.rows)
        there = torch.from_numpy(drawn.rows % 4 == 0)[:, None]
        return torch.where(there, drawn.items.float(), 0.0)

    method = GroupRelative(new_policy(), QUESTIONS, roller("served"), every_fourth, config, seed=0)
    policy = new_policy()
    batches = iter(np.array_split(np.arange(len(QUESTIONS)), 6))
    lessons = list(method.lessons(policy, batches))
    assert len(QUESTIONS) == 108
    assert len(seen) == 108
    assert len(lessons) == 2  # 27 groups have signal: a batch of 20, and 7
    assert lessons[0].figures.signal == pytest.approx(0.25, abs=0.05)
