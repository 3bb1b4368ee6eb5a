"""How far an alignment has come, on disk as one file that is either whole or the one before."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asterism.core.errors import StorageError, TrainingError

CHECKPOINT_FILE = "alignment.checkpoint"


@dataclass(slots=True)
class Progress:
    """All that going on needs beside the start and the configuration."""

    identity: str  # of the start, the configuration and the seed
    epoch: int = 1
    batch: int = 0  # of this epoch, that were handed out
    step: int = 0
    best_step: int = 0
    without_gain: int = 0  # validations
    seconds: float = 0.0  # over all sittings
    start: list[float] = field(default_factory=list)  # worth of each validation case
    best: list[float] = field(default_factory=list)  # likewise, of the best weights
    floor: float | None = None  # what must not fall, at the start


@dataclass(slots=True)
class Checkpoint:
    """Progress and the tensors that belong to it."""

    progress: Progress
    weights: dict[str, Tensor]  # as they stand; only those that learn
    best_weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    method: dict[str, Any]


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint in place of the one before; raises `StorageError` where the disk is full."""
    file = folder / CHECKPOINT_FILE
    staging = file.with_name(f".{CHECKPOINT_FILE}.writing")
    progress = {"progress": asdict(checkpoint.progress)}
    try:
        with staging.open("wb") as stream:
            torch.save({one.name: getattr(checkpoint, one.name) for one in fields(checkpoint)} | progress, stream)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(file)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
        raise StorageError(
            f"{file} cannot be written ({str(error).splitlines()[0]}); make room, then align with --resume"
        ) from error


def load(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint in a folder, None where there is none; raises `TrainingError` where it is of another run."""
    file = folder / CHECKPOINT_FILE
    if not file.is_file():
        return None
    try:
        raw = torch.load(file, weights_only=True)
        found = Checkpoint(**(raw | {"progress": Progress(**raw["progress"])}))
    except Exception as error:  # what a damaged file makes the reader raise is open
        raise TrainingError(f"{file} cannot be read ({error}); align without --resume to start anew") from error
    if found.progress.identity != identity:
        raise TrainingError(
            f"{file} was written by another configuration, seed or start, so it cannot be resumed; align without "
            "--resume to start anew"
        )
    return found


def clear(folder: Path) -> None:
    """Forget an earlier run's checkpoint."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
