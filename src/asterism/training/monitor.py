"""What a run tells while it goes: a live line for people, JSON lines for programs, TensorBoard for curves."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

METRICS_FILE = "metrics.jsonl"
BOARD_FOLDER = "tensorboard"


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch in figures."""

    epoch: int  # epochs finished
    step: int
    losses: dict[str, float]  # `total` and the terms that it is made of; 0 where a term has no weight
    validation_recall_at_10: float
    validation_ndcg_at_10: float
    learning_rate: float
    padding_share: float  # of the positions that attention saw; all other work is done for events alone
    events_per_second: float  # of a language model tokens
    seconds: float  # of training so far, over all sittings

    def figures(self) -> dict[str, float]:
        """All by name, as they are written down: the total as `loss`, a term as `loss_<name>`."""
        figures: dict[str, float] = {}
        for name, value in asdict(self).items():
            if name == "losses":
                figures |= {"loss" if term == "total" else f"loss_{term}": loss for term, loss in value.items()}
            else:
                figures[name] = value
        return figures


class Watcher(Protocol):
    """Who is told how a run goes."""

    def epoch_starts(self, epoch: int) -> None:
        """A new epoch begins, counted from one."""
        ...

    def step(self, loss: float) -> None:
        """One optimiser step was taken."""
        ...

    def epoch_ends(self, report: EpochReport, best: bool, seconds_left: float) -> None:
        """An epoch was trained and validated."""
        ...


class Silence:
    """Implements `Watcher` for all processes but the main one."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def epoch_starts(self, epoch: int) -> None:
        """Say nothing."""

    def step(self, loss: float) -> None:
        """Say nothing."""

    def epoch_ends(self, report: EpochReport, best: bool, seconds_left: float) -> None:
        """Say nothing."""


class Monitor:
    """Writes each epoch to `metrics.jsonl` and TensorBoard, and shows live progress on stderr."""

    def __init__(self, folder: Path, epochs: int, steps_per_epoch: int, resumed_epoch: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / METRICS_FILE
        _drop_epochs_after(self._log, resumed_epoch)
        self._board = _open_board(folder / BOARD_FOLDER, resumed_epoch)
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._live = sys.stderr.isatty()
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f} · validation NDCG@10 {task.fields[ndcg]:.4f}"),
            TimeElapsedColumn(),
            TextColumn("at most {task.fields[eta]} left"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not self._live)
        self._task = self._bar.add_task("", total=steps_per_epoch, epoch=1, loss=0.0, ndcg=0.0, eta="?")

    def __enter__(self) -> Monitor:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def epoch_starts(self, epoch: int) -> None:
        """Reset the bar for a new epoch, counted from one."""
        self._bar.reset(self._task, total=self._steps_per_epoch, epoch=epoch)

    def step(self, loss: float) -> None:
        """One optimiser step was taken."""
        self._bar.update(self._task, advance=1, loss=loss)

    def epoch_ends(self, report: EpochReport, best: bool, seconds_left: float) -> None:
        """Record an epoch everywhere."""
        self._bar.update(self._task, ndcg=report.validation_ndcg_at_10, eta=_minutes(seconds_left))
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(report.figures()) + "\n")
        if self._board is not None:
            for name, value in report.figures().items():
                self._board.add_scalar(name, value, report.epoch)
        star = " *" if best else ""
        self._bar.console.print(
            f"epoch {report.epoch}/{self._epochs}  loss {report.losses['total']:.3f}"
            f"  validation recall@10 {report.validation_recall_at_10:.4f}"
            f"  ndcg@10 {report.validation_ndcg_at_10:.4f}{star}"
            f"  {report.seconds:.0f} s, at most {_minutes(seconds_left)} left",
            highlight=False,
            soft_wrap=True,
        )


def _open_board(folder: Path, resumed_epoch: int) -> Any:
    """A TensorBoard writer, or None without the `report` extra: the JSON lines hold the same figures."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    if resumed_epoch == 0:
        shutil.rmtree(folder, ignore_errors=True)  # curves of an older run in the same place
    module = importlib.import_module("torch.utils.tensorboard")
    return module.SummaryWriter(str(folder), purge_step=resumed_epoch + 1)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _drop_epochs_after(log: Path, epoch: int) -> None:
    """A resumed run writes these epochs again; without this they would stand in the log twice."""
    if not log.is_file():
        return
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [line for line in lines if json.loads(line)["epoch"] <= epoch]
    log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
