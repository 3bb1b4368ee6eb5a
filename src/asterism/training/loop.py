"""The training loop: one code path for one process or several, CPU or GPU, fp32 or bf16."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from asterism.config import TrainingConfig
from asterism.core.errors import ModelError, TrainingError
from asterism.core.hashing import hash_value
from asterism.data.preferences import PreferencePairs
from asterism.data.sequences import Sequences
from asterism.models.ugt import UGT
from asterism.training.averaging import WeightAverage
from asterism.training.checkpoint import Checkpoints, Progress
from asterism.training.course import Course, Size
from asterism.training.launches import cutting_left_to_us, wanted_cut
from asterism.training.monitor import EpochReport, Monitor, Silence, Watcher
from asterism.training.next_item import next_item_course
from asterism.training.sharded import ShardedObjective, ShardedState

CHECKPOINT_FOLDER = "checkpoint"


class Validation(NamedTuple):
    """Means over the validation cases, the user's history excluded."""

    recall_at_10: float
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class FitResult:
    """What training came to."""

    epochs: int
    best_epoch: int
    best_ndcg_at_10: float
    seconds: float
    stopped: str  # why it ended, in words
    processes: int  # that trained together


@dataclass(frozen=True, slots=True)
class Sitting:
    """By which rules a course is taught, how it is examined, and where it keeps its work."""

    config: TrainingConfig
    seed: int
    folder: Path  # checkpoints, metrics.jsonl, tensorboard
    config_hash: str  # of everything that decides the weights
    validate: Callable[[], Validation]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run trains a UGT on, and where it keeps its work."""

    model: UGT
    train: Sequences
    config: TrainingConfig
    seed: int
    folder: Path  # checkpoints, metrics.jsonl, tensorboard
    config_hash: str  # of everything that decides the weights
    validate: Callable[[UGT], Validation]
    pairs: PreferencePairs | None = None  # where the preference term has weight


def fit(run: Run, *, resume: bool) -> FitResult:
    """Train a UGT until validation NDCG@10 stops rising; the model is left with its best weights.

    Raises `TrainingError` where there is nothing to learn from or the loss is not finite.
    """
    set_seed(run.seed)
    course = next_item_course(run.model, run.train, run.config, run.seed, run.pairs)
    sitting = Sitting(run.config, run.seed, run.folder, run.config_hash, lambda: run.validate(run.model))
    return fit_course(course, sitting, resume=resume)


def fit_course(course: Course, sitting: Sitting, *, resume: bool) -> FitResult:
    """Teach until validation NDCG@10 stops rising; the model is left with its best weights.

    Raises `TrainingError` where the loss is not finite.
    """
    return _Fitting(course, sitting, resume=resume).run_to_end()


class _Fitting:
    """The moving parts of one run."""

    def __init__(self, course: Course, sitting: Sitting, *, resume: bool) -> None:
        self.course, self.spec = course, sitting
        config = sitting.config
        mixed = "bf16" if config.precision == "bf16" else "no"
        with cutting_left_to_us():
            self.accelerator = Accelerator(mixed_precision=mixed, cpu=not torch.cuda.is_available())
        self.best: dict[str, Tensor] = {}
        cut = wanted_cut() if self.accelerator.num_processes > 1 else None
        self.sharded = None if cut is None else ShardedObjective(course, self.accelerator.device, cut)
        objective = course.objective if self.sharded is None else self.sharded.objective
        optimizer = make_optimizer(objective, config)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / max(1, config.warmup_steps))
        )
        loader: DataLoader[Any] = DataLoader(
            range(course.examples),  # type: ignore[arg-type]
            batch_sampler=course.batches,
            collate_fn=course.make_batch,
        )
        self.objective, self.optimizer = objective, optimizer
        if self.sharded is None:
            self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        else:
            self.accelerator.register_for_checkpointing(ShardedState(objective, optimizer))
        # Prepared, it would take a step for each process.
        self.schedule = schedule
        self.accelerator.register_for_checkpointing(schedule)
        self.loader = self.accelerator.prepare(loader)
        learning = course.model if self.sharded is None else self.sharded.cut
        self.average = WeightAverage(learning, config.average_epochs * len(self.loader))
        self.accelerator.register_for_checkpointing(self.average)
        self.checkpoints = Checkpoints(sitting.folder / CHECKPOINT_FOLDER)
        self.progress = self._start(resume)

    def _start(self, resume: bool) -> Progress:
        if resume and self.checkpoints.exists:
            progress, self.best = self.checkpoints.load(self.accelerator, self._identity)
            return progress
        if resume and self.accelerator.is_main_process:
            print(f"there is no checkpoint in {self.spec.folder}; training starts anew", file=sys.stderr)
        self.checkpoints.clear()
        return Progress(self._identity)

    @property
    def _identity(self) -> str:
        return hash_value([self.spec.config_hash, self.accelerator.num_processes, self.sharded is not None])

    def run_to_end(self) -> FitResult:
        with self._watcher() as monitor:
            while (stopped := self._reason_to_stop()) is None:
                self._epoch(monitor)
        model = self.course.model
        model.load_state_dict(self.best, strict=len(self.best) == len(model.state_dict()))
        model.eval()  # forgets what validation kept of other weights
        progress = self.progress
        return FitResult(
            epochs=progress.epoch,
            best_epoch=progress.best_epoch,
            best_ndcg_at_10=progress.best_ndcg,
            seconds=progress.seconds,
            stopped=stopped,
            processes=self.accelerator.num_processes,
        )

    def _watcher(self) -> Monitor | Silence:
        if not self.accelerator.is_main_process:
            return Silence()
        return Monitor(self.spec.folder, self.spec.config.epochs, len(self.loader), self.progress.epoch)

    def _epoch(self, monitor: Watcher) -> None:
        started = time.monotonic()
        monitor.epoch_starts(self.progress.epoch + 1)
        self.course.batches.epoch = self.progress.epoch
        sums = self._train_epoch(monitor)
        trained_seconds = time.monotonic() - started
        with self.average.applied():
            validation = Validation(*self._agreed(*self._validate()))
            self.progress.epoch += 1
            better = self._note(validation)
        (self.progress.seconds,) = self._agreed(self.progress.seconds + time.monotonic() - started)
        # The line first: one too many is dropped where a run goes on, one that is missing stays so.
        monitor.epoch_ends(self._report(sums, validation, trained_seconds), better, self._seconds_left())
        self.checkpoints.save(self.accelerator, self.progress, self.best)

    def _train_epoch(self, monitor: Watcher) -> _EpochSums:
        self.objective.train()
        sums = _EpochSums()
        for batch in self.loader:
            losses = self._step(batch.to(self.accelerator.device))
            sums.add(losses, self.course.size(batch))
            monitor.step(losses["total"])
        return sums

    def _step(self, batch: Any) -> dict[str, float]:
        """Each term of the loss by its name."""
        with self.accelerator.autocast():
            terms = self.objective(batch)
        figures = torch.stack([term.detach().float() for term in terms]).tolist()  # one wait for the device
        losses = dict(zip(terms._fields, figures, strict=True))
        if not math.isfinite(losses["total"]):
            raise self._diverged(f"the loss became {losses['total']} at step {self.progress.step}")
        self.accelerator.backward(terms.total)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        self.average.update(self.progress.step)
        return losses

    def _validate(self) -> Validation:
        if self.sharded is not None:
            self.sharded.gather()
        self.course.model.eval()
        try:
            return self.spec.validate()
        except ModelError as error:
            raise self._diverged(f"validation failed ({error})") from error

    def _agreed(self, *figures: float) -> list[float]:
        """Those of the main process, so that all decide alike."""
        found = list(figures)
        broadcast_object_list(found)
        return found

    def _diverged(self, what: str) -> TrainingError:
        config = self.spec.config
        return TrainingError(
            f"{what} in epoch {self.progress.epoch + 1}; lower the learning rate (now {config.learning_rate:g}) "
            f"or raise the temperature (now {config.temperature:g}), then train anew"
        )

    def _note(self, validation: Validation) -> bool:
        progress = self.progress
        better = validation.ndcg_at_10 > progress.best_ndcg
        if better:
            progress.best_ndcg, progress.best_epoch = validation.ndcg_at_10, progress.epoch
            progress.validations_without_gain = 0
            self.best = _learned(self.course.model)
        else:
            progress.validations_without_gain += 1
        return better

    def _reason_to_stop(self) -> str | None:
        config, progress = self.spec.config, self.progress
        if progress.validations_without_gain >= config.patience:
            return f"validation NDCG@10 has not risen for {config.patience} epochs"
        if config.max_minutes is not None and progress.seconds >= config.max_minutes * 60:
            return f"the budget of {config.max_minutes:g} minutes is spent"
        if progress.epoch >= config.epochs:
            return f"all {config.epochs} epochs are done"
        return None

    def _seconds_left(self) -> float:
        config, progress = self.spec.config, self.progress
        left = progress.seconds / progress.epoch * (config.epochs - progress.epoch)
        return left if config.max_minutes is None else max(0.0, min(left, config.max_minutes * 60 - progress.seconds))

    def _report(self, sums: _EpochSums, validation: Validation, trained_seconds: float) -> EpochReport:
        return EpochReport(
            epoch=self.progress.epoch,
            step=self.progress.step,
            losses={name: loss / sums.steps for name, loss in sums.losses.items()},
            validation_recall_at_10=validation.recall_at_10,
            validation_ndcg_at_10=validation.ndcg_at_10,
            learning_rate=float(self.schedule.get_last_lr()[0]),
            padding_share=1.0 - sums.events / sums.positions,
            events_per_second=sums.events / trained_seconds,
            seconds=self.progress.seconds,
        )


def make_optimizer(objective: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW with the update of all tensors in one call."""
    groups = parameter_groups(objective, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, scales and other vectors do not."""
    learning = [one for one in model.parameters() if one.requires_grad]
    matrices = [one for one in learning if one.ndim >= 2]
    vectors = [one for one in learning if one.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _learned(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's tensors but for frozen parameters."""
    frozen = {name for name, one in model.named_parameters(remove_duplicate=False) if not one.requires_grad}
    return {name: one.detach().clone() for name, one in model.state_dict().items() if name not in frozen}


@dataclass(slots=True)
class _EpochSums:
    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    events: int = 0
    positions: int = 0

    def add(self, losses: dict[str, float], size: Size) -> None:
        self.steps += 1
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss
        self.events += size.events
        self.positions += size.positions
