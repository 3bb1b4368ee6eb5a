"""Alignment in a launch of two processes, of which the second alone sees a loss that is no number; JSON of both."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from asterism.training.alignment.lessons import Figures, Lesson, Rows, TrainablePolicy
from asterism.training.alignment.loop import Steering, align
from asterism.training.alignment.processes import Processes
from training.alignment.small_world import new_policy, settings


class RunsAwayElsewhere:
    """Pushes one parameter; the third lesson of the second process is no number."""

    rows: Rows = np.arange(80)

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        for number, _ in enumerate(batches):
            broken = self.rank == 1 and number == 2
            loss = next(iter(policy.parameters())).sum() * (torch.nan if broken else 1.0)
            yield Lesson(loss, 1.0, Figures(0.0, 1.0, 0.0, 0.0))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def main() -> None:
    """Every validation finds more than the one before."""
    processes, policy, worths = Processes(), new_policy(), iter([0.5, 0.6])
    config = settings(batch_users=10, validations=4)
    with tempfile.TemporaryDirectory() as folder:
        steering = Steering(lambda one: np.full(50, next(worths)), Path(folder), 0, lambda line: None)
        result = align(policy, RunsAwayElsewhere(processes.rank), config, steering)
    weights = sum(float(one.detach().double().sum()) for one in policy.parameters())
    found = gather_object([{"best_step": result.best_step, "stopped": result.stopped, "weights": weights}])
    if processes.main:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
