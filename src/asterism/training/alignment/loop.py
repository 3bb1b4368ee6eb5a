"""The loop of alignment: lessons, validations, and the best weights, which may be those it started from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config.run import AlignmentConfig
from asterism.core.errors import TrainingError
from asterism.core.progress import track
from asterism.evaluation.significance import compare_paired
from asterism.training.alignment.lessons import Figures, Lesson, Method, TrainablePolicy

LOG_FILE = "alignment.jsonl"
_BETAS = (0.9, 0.98)
_WARMUP_STEPS = 20
_LONGEST_GRADIENT = 1.0
_BOOTSTRAP_SAMPLES = 1000

#: What the policy is worth on each validation case; its mean steers.
Validate = Callable[[TrainablePolicy], NDArray[np.float64]]


class AlignmentReport(NamedTuple):
    """One line of the log: means over the steps since the line before it, then the validation."""

    step: int
    loss: float
    reward: float
    signal: float
    kl: float
    entropy: float
    validation: float
    seconds: float


@dataclass(frozen=True, slots=True)
class AlignmentResult:
    """What alignment came to."""

    steps: int
    best_step: int  # 0 where the start was not beaten
    measure: str  # what was validated
    start_validation: float
    best_validation: float  # as high as a validation found it, whether or not the gain is sure
    p_value: float  # paired bootstrap on the validation cases; 1 where the start is the best
    improved: bool
    seconds: float
    stopped: str  # why it ended, in words


def align(
    policy: TrainablePolicy,
    method: Method,
    config: AlignmentConfig,
    validate: Validate,
    folder: Path,
    seed: int,
    tell: Callable[[str], None],
    measure: str = "NDCG@10",
) -> AlignmentResult:
    """Take lessons until validation by `measure` stops rising; the policy is left with its best weights.

    These are the ones it came with unless others do better by a paired bootstrap at `config.significance`. Raises
    `TrainingError` where the loss is not finite, or the divergence from the start exceeds `config.max_kl`.
    """
    return _Aligning(policy, method, config, validate, folder, seed, tell, measure).run_to_end()


class _Aligning:
    def __init__(
        self,
        policy: TrainablePolicy,
        method: Method,
        config: AlignmentConfig,
        validate: Validate,
        folder: Path,
        seed: int,
        tell: Callable[[str], None],
        measure: str,
    ) -> None:
        torch.manual_seed(seed)
        self.policy, self.method, self.config, self.tell = policy, method, config, tell
        self.validate, self.measure = validate, measure
        self.random = np.random.default_rng([seed, 1])
        self.parameters = [one for one in policy.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, betas=_BETAS, weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / _WARMUP_STEPS)
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / LOG_FILE
        self.log.unlink(missing_ok=True)
        self.began = time.monotonic()
        self.step = self.best_step = self.without_gain = 0
        self.seen: list[tuple[float, Figures]] = []

    def run_to_end(self) -> AlignmentResult:
        self.policy.eval()
        self.start = self.best = self.validate(self.policy)
        self.weights = self.start_weights = self._weights()
        self.tell(f"start: validation {self.measure} {self.start.mean():.4f} of {len(self.start):,} cases")
        stopped = None
        for epoch in range(1, self.config.epochs + 1):
            if (stopped := self._epoch(epoch)) is not None:
                break
        compared = compare_paired(self.best, self.start, _BOOTSTRAP_SAMPLES, seed=0)
        improved = self.best_step > 0 and compared.p_value <= self.config.significance
        self.policy.load_state_dict(self.weights if improved else self.start_weights)
        self.policy.eval()
        return AlignmentResult(
            steps=self.step,
            best_step=self.best_step,
            measure=self.measure,
            start_validation=float(self.start.mean()),
            best_validation=float(self.best.mean()),
            p_value=compared.p_value if self.best_step else 1.0,
            improved=improved,
            seconds=time.monotonic() - self.began,
            stopped=stopped or f"all {self.config.epochs} epochs are done",
        )

    def _epoch(self, epoch: int) -> str | None:
        """Why to stop, or None."""
        shuffled = self.random.permutation(self.method.rows)
        size = self.config.batch_users
        batches = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
        every = math.ceil(len(batches) / self.config.validations)
        shown = track(batches, f"epoch {epoch}/{self.config.epochs}", status=self._status)
        for lesson in self.method.lessons(self.policy, shown):
            self._take(lesson)
            if self.step % every == 0 and (stopped := self._validated()):
                return stopped
        return self._validated() if self.seen else None

    def _take(self, lesson: Lesson) -> None:
        loss = float(lesson.loss.detach())
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}")
        if not lesson.figures.kl <= self.config.max_kl:
            raise self._diverged(
                f"the divergence from the start became {lesson.figures.kl:.3g}, above alignment.max_kl "
                f"{self.config.max_kl:g},"
            )
        self.optimizer.zero_grad()
        lesson.loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, _LONGEST_GRADIENT)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.seen.append((loss, lesson.figures))

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} at step {self.step}; lower alignment.learning_rate (now {self.config.learning_rate:g}), "
            "or raise what holds to the start: alignment.kl_weight for GRPO, alignment.beta for DPO"
        )

    def _validated(self) -> str | None:
        """Validate and note; why to stop, or None."""
        self.policy.eval()
        found = self.validate(self.policy)
        better = bool(found.mean() > self.best.mean())
        if better:
            self.best, self.best_step, self.weights, self.without_gain = found, self.step, self._weights(), 0
        else:
            self.without_gain += 1
        self._report(float(found.mean()), better)
        if self.without_gain >= self.config.patience:
            return f"validation {self.measure} has not risen for {self.config.patience} validations"
        return None

    def _report(self, validation: float, better: bool) -> None:
        losses, figures = zip(*self.seen, strict=True)
        means = Figures(*np.mean(figures, axis=0).tolist())
        seconds = time.monotonic() - self.began
        report = AlignmentReport(self.step, float(np.mean(losses)), *means, validation, seconds)
        self.seen = []
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(report._asdict()) + "\n")
        self.tell(
            f"step {report.step}  loss {report.loss:.4f}  reward {report.reward:.4f}  groups with signal "
            f"{report.signal:.0%}  KL {report.kl:.4f}  entropy {report.entropy:.2f}"
            f"  validation {self.measure} {validation:.4f}{' *' if better else ''}"
        )

    def _status(self) -> str:
        if not self.seen:
            return ""
        loss, figures = self.seen[-1]
        return f"loss {loss:.4f} · reward {figures.reward:.4f} · KL {figures.kl:.4f}"

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.policy.state_dict().items()}
