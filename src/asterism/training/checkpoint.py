"""Checkpoints that are either whole or absent, so that a killed run resumes to the same weights."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asterism.core.errors import StorageError, TrainingError

# It warns of every matrix that a language model uses twice, which is written once and read back right.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)

_STATE = "progress.json"
_BEST = "best.safetensors"


@dataclass(slots=True)
class Progress:
    """How far a run has come; all that is needed, beside the tensors, to go on."""

    config_hash: str
    epoch: int = 0  # epochs finished
    step: int = 0  # optimiser steps taken
    seconds: float = 0.0  # of training, over all sittings
    best_ndcg: float = -1.0
    best_epoch: int = 0
    validations_without_gain: int = 0


class Checkpoints:
    """The newest checkpoint of a run, replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether there is something to resume from."""
        self._recover()
        return _is_whole(self.folder)

    def save(self, accelerator: Accelerator, progress: Progress, best: dict[str, Tensor]) -> None:
        """Write model, optimiser, schedule, random states, best weights and progress; a crash leaves the older one.

        Raises `StorageError` where the disk is full or cannot be written to.
        """
        try:
            self._save(accelerator, progress, best)
        except (OSError, SafetensorError, RuntimeError) as error:  # torch's own writer raises RuntimeError
            raise StorageError(
                f"{self.folder} cannot be written ({str(error).splitlines()[0]}); make room, then train with --resume"
            ) from error

    def _save(self, accelerator: Accelerator, progress: Progress, best: dict[str, Tensor]) -> None:
        staging = self.folder.with_name(f".{self.folder.name}.writing")
        if accelerator.is_main_process:
            shutil.rmtree(staging, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(staging))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            save_file(best, staging / _BEST)
            _write_synced(staging / _STATE, json.dumps(asdict(progress), indent=2))
            self._put_in_place(staging)
        accelerator.wait_for_everyone()

    def load(self, accelerator: Accelerator, config_hash: str) -> tuple[Progress, dict[str, Tensor]]:
        """Restore everything; raises `TrainingError` where the checkpoint is of another run."""
        progress = Progress(**json.loads((self.folder / _STATE).read_text(encoding="utf-8")))
        if progress.config_hash != config_hash:
            raise TrainingError(
                f"{self.folder} was written by another configuration, other data or another kind of launch, so it "
                "cannot be resumed; train without --resume to start anew"
            )
        accelerator.load_state(str(self.folder))
        return progress, load_file(self.folder / _BEST)

    def clear(self) -> None:
        """Forget an older run's checkpoint."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._old, ignore_errors=True)

    def _put_in_place(self, staging: Path) -> None:
        shutil.rmtree(self._old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(self._old)
        staging.rename(self.folder)
        shutil.rmtree(self._old, ignore_errors=True)

    def _recover(self) -> None:
        """Put the older checkpoint back if a crash fell between the two renames."""
        if not _is_whole(self.folder) and _is_whole(self._old):
            self._old.rename(self.folder)

    @property
    def _old(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.old")


def _is_whole(folder: Path) -> bool:
    return (folder / _STATE).is_file()


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
