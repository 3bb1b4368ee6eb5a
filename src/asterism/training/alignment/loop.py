"""The loop of alignment: lessons, validations, and the best weights, which may be those it started from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config.run import AlignmentConfig
from asterism.core.errors import TrainingError
from asterism.core.hashing import hash_value
from asterism.core.progress import track
from asterism.evaluation.significance import compare_paired
from asterism.training.alignment import checkpoint
from asterism.training.alignment.checkpoint import Checkpoint, Progress
from asterism.training.alignment.lessons import Figures, Lesson, Method, Rows, TrainablePolicy
from asterism.training.alignment.outcome import INTERRUPTED, AlignmentResult, Log
from asterism.training.alignment.processes import Processes

_FORMAT = 2  # of checkpoints; those of another cannot be gone on from
_BETAS = (0.9, 0.98)
_WARMUP_STEPS = 20
_LONGEST_GRADIENT = 1.0
_BOOTSTRAP_SAMPLES = 1000

#: What the policy is worth on each validation case; its mean steers.
Validate = Callable[[TrainablePolicy], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Steering:
    """By what alignment is judged, where it keeps its work, and what tells of it."""

    validate: Validate
    folder: Path
    seed: int
    tell: Callable[[str], None]
    measure: str = "NDCG@10"
    floor: Callable[[], float] | None = None  # of the lists just validated: what must not fall below the start's
    start: str = ""  # what identifies the weights that it starts from


def align(
    policy: TrainablePolicy, method: Method, config: AlignmentConfig, steering: Steering, *, resume: bool = False
) -> AlignmentResult:
    """Take lessons until validation stops rising; the policy is left with its best weights.

    These are the ones it came with unless others do better by a paired bootstrap at `config.significance`. Ctrl-C ends
    it there and then, with the best so far, and so does a loss that is not finite or a divergence from the start above
    `config.max_kl`; `resume` goes on from the newest validation. Raises `TrainingError` where it diverges with nothing
    better than the start, or nothing of the policy learns.
    """
    return _Aligning(policy, method, config, steering, resume=resume).run_to_end()


class _Aligning:
    def __init__(
        self, policy: TrainablePolicy, method: Method, config: AlignmentConfig, steering: Steering, *, resume: bool
    ) -> None:
        self.policy, self.method, self.config, self.steering = policy, method, config, steering
        self.processes = Processes()
        self.parameters = {name: one for name, one in policy.named_parameters() if one.requires_grad}
        if not self.parameters:
            raise TrainingError("nothing of the policy may learn; give `alignment.mode` full, lora or embeddings")
        learned = list(self.parameters.values())
        self.processes.begin_alike(self.parameters.values())
        self.optimizer = self.processes.optimizer(learned, lr=config.learning_rate, betas=_BETAS, weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / _WARMUP_STEPS)
        )
        steering.folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(steering.folder, written=self.processes.main)
        self.start_weights = self.best_weights = self._weights()
        self.seen: list[tuple[float, Figures]] = []
        self.stopped: str | None = None
        self.progress = (self._resumed() if resume else None) or self._begun()
        self.began = time.monotonic() - self.progress.seconds

    def run_to_end(self) -> AlignmentResult:
        try:
            while self.stopped is None and self.progress.epoch <= self.config.epochs:
                self._epoch()
        except KeyboardInterrupt:
            self.stopped = INTERRUPTED
        progress = self.progress
        start, best = np.array(progress.start), np.array(progress.best)
        compared = compare_paired(best, start, _BOOTSTRAP_SAMPLES, seed=0)
        improved = progress.best_step > 0 and compared.p_value <= self.config.significance
        self._take_weights(self.best_weights if improved else self.start_weights)
        return AlignmentResult(
            steps=progress.step,
            best_step=progress.best_step,
            measure=self.steering.measure,
            start_validation=float(start.mean()),
            best_validation=float(best.mean()),
            p_value=compared.p_value if progress.best_step else 1.0,
            improved=improved,
            seconds=time.monotonic() - self.began,
            stopped=self.stopped or f"all {self.config.epochs} epochs are done",
        )

    def _begun(self) -> Progress:
        if self.processes.main:
            checkpoint.clear(self.steering.folder)
        self.log.clear()
        self.policy.eval()
        start = self.steering.validate(self.policy)
        self._reseed(0)
        floor = None if self.steering.floor is None else self.steering.floor()
        held = "" if floor is None else f", diversity {floor:.4f}"
        self.steering.tell(
            f"start: validation {self.steering.measure} {start.mean():.4f} of {len(start):,} cases{held}"
        )
        return Progress(self._identity, start=start.tolist(), best=start.tolist(), floor=floor)

    def _resumed(self) -> Progress | None:
        found = checkpoint.load(self.steering.folder, self._identity)
        if found is None:
            self.steering.tell(f"there is no checkpoint in {self.steering.folder}; alignment starts anew")
            return None
        self._take_weights(found.weights)
        self.best_weights = found.best_weights
        self.optimizer.load_state_dict(found.optimizer)
        self.schedule.load_state_dict(found.schedule)
        self.method.load_state_dict(found.method)
        self.log.keep_until(found.progress.step)
        self._reseed(found.progress.step)
        self.stopped = self._reason_to_stop(found.progress)
        self.steering.tell(f"going on from step {found.progress.step}")
        return found.progress

    @property
    def _identity(self) -> str:
        decisive = [_FORMAT, self.config.model_dump(mode="json"), self.steering.seed, self.steering.measure]
        return hash_value([*decisive, self.steering.start, self.processes.count])

    def _epoch(self) -> None:
        shuffled = np.random.default_rng([self.steering.seed, self.progress.epoch]).permutation(self.method.rows)
        size = self.config.batch_users
        batches = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
        shown = track(batches, f"epoch {self.progress.epoch}/{self.config.epochs}", status=self._status)
        for lesson in self.method.lessons(self.policy, self._handed_out(shown, len(batches))):
            if self.stopped is None:
                self._take(lesson)
            if self.stopped is not None:
                return
        self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
        self._validate()

    def _handed_out(self, batches: Iterator[Rows], count: int) -> Iterator[Rows]:
        """Batches from where the epoch stands; validations fall between two of them, when no step is half done."""
        every = math.ceil(count / self.config.validations)
        skipped = self.progress.batch
        for number, rows in enumerate(batches):
            if number < skipped:
                continue
            if number > skipped and number % every == 0:
                self._validate()
                if self.stopped is not None:
                    return
            self.progress.batch = number + 1
            yield rows

    def _take(self, lesson: Lesson) -> None:
        """One step by the mean over all processes' shares, each counting by its weight."""
        parts = torch.tensor([1.0, float(lesson.loss.detach()), *lesson.figures], dtype=torch.float64) * lesson.weight
        weight, *sums = self.processes.sums(parts).tolist()
        loss, *figures = (one / max(weight, 1e-9) for one in sums)
        found = Figures(*figures)
        if not math.isfinite(loss):
            return self._diverge(f"the loss became {loss}")
        if not found.kl <= self.config.max_kl:
            return self._diverge(
                f"the divergence from the start became {found.kl:.3g}, above alignment.max_kl {self.config.max_kl:g},"
            )
        self.optimizer.zero_grad()
        share = lesson.loss if self.processes.count == 1 else lesson.loss * (lesson.weight / max(weight, 1e-9))
        share.backward()
        learned = list(self.parameters.values())
        self.processes.sum_gradients(learned)
        norm = float(torch.nn.utils.clip_grad_norm_(learned, _LONGEST_GRADIENT))
        if not math.isfinite(norm):
            return self._diverge(f"the gradient's length became {norm}")
        self.optimizer.step()
        self.schedule.step()
        self.progress.step += 1
        self.seen.append((loss, found))

    def _diverge(self, what: str) -> None:
        """Stop with the best so far, or raise where there is none; all processes see the same sums, and so agree."""
        said = (
            f"{what} at step {self.progress.step}; lower alignment.learning_rate (now {self.config.learning_rate:g}), "
            "or raise what holds to the start: alignment.kl_weight for GRPO, alignment.beta for DPO"
        )
        if self.progress.best_step == 0:
            raise TrainingError(said)
        self.stopped = f"it diverged: {said}"

    def _validate(self) -> None:
        """Where steps were taken since the last time: validate, note, keep a checkpoint."""
        if not self.seen:
            return
        self.policy.eval()
        progress, found = self.progress, self.steering.validate(self.policy)
        fell = progress.floor is not None and self._floor() < progress.floor
        better = bool(found.mean() > np.mean(progress.best)) and not fell
        if better:
            progress.best, progress.best_step, progress.without_gain = found.tolist(), progress.step, 0
            self.best_weights = self._weights()
        else:
            progress.without_gain += 1
        progress.seconds = time.monotonic() - self.began
        report = self.log.add(progress.step, self.seen, float(found.mean()), progress.seconds)
        self.seen = []
        mark = " *" if better else f" (diversity {self._floor():.4f})" if fell else ""
        self.steering.tell(report.said(self.steering.measure, mark))
        self.stopped = self._reason_to_stop(progress)
        self._save()
        self._reseed(progress.step)

    def _floor(self) -> float:
        assert self.steering.floor is not None
        return self.steering.floor()

    def _reason_to_stop(self, progress: Progress) -> str | None:
        if progress.without_gain >= self.config.patience:
            return f"validation {self.steering.measure} has not risen for {self.config.patience} validations"
        return None

    def _save(self) -> None:
        optimizer = self.processes.state_of(self.optimizer)
        if self.processes.main:
            schedule = self.schedule.state_dict()
            kept = (self.progress, self._weights(), self.best_weights, optimizer, schedule, self.method.state_dict())
            checkpoint.save(Checkpoint(*kept), self.steering.folder)

    def _reseed(self, step: int) -> None:
        """Dropout draws depend on the step and the process alone, so that a resumed run draws alike."""
        mixed = np.random.default_rng([self.steering.seed, step, self.processes.rank])
        torch.manual_seed(int(mixed.integers(2**62)))

    def _status(self) -> str:
        if not self.seen:
            return ""
        loss, figures = self.seen[-1]
        return f"loss {loss:.4f} · reward {figures.reward:.4f} · KL {figures.kl:.4f}"

    def _weights(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self.parameters.items()}

    @torch.no_grad()
    def _take_weights(self, weights: dict[str, Tensor]) -> None:
        for name, one in self.parameters.items():
            one.copy_(weights[name])
        self.policy.eval()  # forgets what was kept of other weights
