"""What a launch of two processes trains with weights whole and cut; the main one prints what it found as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor

from asterism.config import TrainingConfig
from asterism.config.llm import TrainingMode
from asterism.core import records
from asterism.training.alignment.processes import Processes
from asterism.training.course import Course
from asterism.training.launches import leave
from asterism.training.loop import Sitting, Validation, _Fitting
from asterism.training.next_item import next_item_course
from asterism.training.sft import supervised_course
from models.small_llm import TITLES, make_llm
from models.small_ugt import EVERYTHING, full_sequences, make_model

LENGTHS = [6, 4, 9, 3, 7, 5, 8, 4, 6, 5, 4, 7]
CONFIG = TrainingConfig(
    epochs=3, batch_users=3, learning_rate=0.01, warmup_steps=2, average_epochs=1, negatives=6, alignment_weight=0.1
)
LAUNCHES = {
    "whole": {},
    "layers": {"ACCELERATE_USE_FSDP": "true", "FSDP_RESHARD_AFTER_FORWARD": "true"},
    "moments": {"ACCELERATE_USE_FSDP": "true", "FSDP_RESHARD_AFTER_FORWARD": "false"},
}


class Interrupted(Exception):
    """What a run raises in place of a power cut."""


def ugt() -> Course:
    torch.manual_seed(0)
    model = make_model(**{**EVERYTHING, "dropout": 0.1, "recency_pooling": True})
    return next_item_course(model, full_sequences(LENGTHS), CONFIG, 0, None)


def llm(mode: TrainingMode) -> Course:
    torch.manual_seed(0)
    model = make_llm(batch_tokens=64, lora_rank=4)
    model.make_trainable(mode)
    items = pa.table({records.TITLE: TITLES, records.DESCRIPTION: TITLES})
    return supervised_course(model, items, full_sequences(LENGTHS), 0)


COURSES: dict[str, Callable[[], Course]] = {
    "ugt": ugt,
    **{f"llm {mode}": lambda mode=mode: llm(mode) for mode in ("full", "lora", "embeddings")},  # type: ignore[misc]
}


@contextmanager
def launched(kind: str) -> Iterator[None]:
    """The variables that a launcher would have set."""
    os.environ.update(LAUNCHES[kind])
    try:
        yield
    finally:
        for name in LAUNCHES[kind]:
            del os.environ[name]


def fitting(course: Course, folder: Path, *, stop_in_epoch: int = 0, resume: bool = False) -> _Fitting:
    """A run whose validation finds every epoch better than the one before."""
    seen = 0

    def validate() -> Validation:
        nonlocal seen
        seen += 1
        if seen == stop_in_epoch:
            raise Interrupted
        return Validation(0.0, 0.1 * seen)

    torch.manual_seed(7)  # of dropout and of drawn negatives
    return _Fitting(course, Sitting(CONFIG, 0, folder, "hash", validate), resume=resume)


def weights(course: Course) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in course.model.state_dict().items()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def share_held(run: _Fitting) -> float:
    """Of the numbers that learn, how many this process holds."""
    learning = [one for one in run.objective.parameters() if one.requires_grad]
    held = [one.to_local() if isinstance(one, DTensor) else one for one in learning]
    return sum(one.numel() for one in held) / sum(one.numel() for one in learning)


def compare(make: Callable[[], Course], folder: Path) -> dict[str, float]:
    """How far apart the weights are that launches of each kind end with, and what a process holds of them."""
    found, ends = {}, {}
    for kind in LAUNCHES:
        course = make()
        before = weights(course)
        with launched(kind):
            run = fitting(course, folder / kind)
        found[f"{kind} held"] = share_held(run)
        run.run_to_end()
        ends[kind] = weights(course)
        found[f"{kind} moved"] = apart(before, ends[kind])
        found[f"{kind} apart"] = apart(ends["whole"], ends[kind])
    return found


def resumed(folder: Path) -> float:
    """How far apart the weights are of a cut run that was interrupted in its second validation and went on."""
    whole, course = ugt(), ugt()
    with launched("layers"):
        fitting(whole, folder / "uninterrupted").run_to_end()
        try:
            fitting(course, folder / "interrupted", stop_in_epoch=2).run_to_end()
        except Interrupted:
            course = ugt()
            fitting(course, folder / "interrupted", resume=True).run_to_end()
    return apart(weights(whole), weights(course))


def agreed(folder: Path) -> dict[str, float]:
    """Epochs of a run whose processes do not see the same time pass, and how far its warm-up had come."""
    rank, course = int(os.environ["RANK"]), ugt()

    def validate() -> Validation:
        time.sleep(0.1 + 0.5 * rank)
        return Validation(0.0, 0.0)

    config = CONFIG.model_copy(update={"epochs": 8, "patience": 8, "max_minutes": 1.5 / 60, "warmup_steps": 1000})
    run = _Fitting(course, Sitting(config, 0, folder, "hash", validate), resume=False)
    result = run.run_to_end()
    return {
        "epochs": result.epochs,
        "warmed": run.schedule.get_last_lr()[0] / config.learning_rate * 1000 - 1 - run.progress.step,
    }


def aligned(folder: Path) -> dict[str, float]:
    """How far alignment's optimiser with cut moments ends from AdamW, uninterrupted and gone on from its state."""
    folder.mkdir(exist_ok=True)
    with launched("layers"):
        processes = Processes()
    start = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))

    def begun() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        parameters = [torch.nn.Parameter(one.clone()) for one in start]
        return parameters, processes.optimizer(parameters, lr=0.1)

    def step(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        sum((one**4).sum() for one in parameters).backward()  # type: ignore[union-attr]
        optimizer.step()

    whole = [torch.nn.Parameter(one.clone()) for one in start]
    plain, (cut, optimizer) = torch.optim.AdamW(whole, lr=0.1), begun()
    for _ in range(2):
        step(whole, plain)
        step(cut, optimizer)
    state = processes.state_of(optimizer)
    if processes.main:
        torch.save(state, folder / "state")
    torch.distributed.barrier()
    resumed, going_on = begun()
    for one, other in zip(resumed, cut, strict=True):
        one.data.copy_(other.data)
    going_on.load_state_dict(torch.load(folder / "state", weights_only=True))
    for parameters, one in ((whole, plain), (cut, optimizer), (resumed, going_on)):
        step(parameters, one)
    held = sum(len(state) for state in optimizer.state.values())  # type: ignore[misc]
    return {
        "held": held / sum(len(state) for state in plain.state.values()),
        "apart": max(float((a - b).abs().max()) for a, b in zip(whole, cut, strict=True)),
        "resumed apart": max(float((a - b).abs().max()) for a, b in zip(whole, resumed, strict=True)),
    }


def main(folder: Path) -> None:
    """Compare all, in a process of a launch of two."""
    found: dict[str, object] = {name: compare(make, folder / name) for name, make in COURSES.items()}
    found["resumed"] = resumed(folder / "resumed")
    found["aligned"] = aligned(folder)
    found["agreed"] = gather_object([agreed(folder / "agreed")])
    if int(os.environ["RANK"]) == 0:
        print(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
