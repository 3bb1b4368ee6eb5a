"""Training events a second: UGT beside RecTools' SASRec and HSTU, each in its own training loop.

    peers/bin/pip install accelerate    # on top of what the head of peers.py names
    PYTHONPATH=src peers/bin/python benchmarks/training_throughput.py [--data amazon-office-2014 …] [--only NAME …]
                                       [--steps 20] [--rounds 5] [--threads 2] [--precision fp32] [--seed 0]

All have width 64, 2 blocks, 2 heads, the newest 50 events of a history, dropout 0.5, batches of 64 users, and learn on
the same data in the same precision. In each round every contender trains `--steps` steps, one after the other, so that
what else the machine does falls on all alike; the first step of a round is left out, and medians over rounds count.

An event is a position with a target, counted the same way on both sides: what stands in padding is none, nor is the
first event of a history, though UGT learns it too. Time runs from the start of one step to the start of the next, so
that batches, losses, gradients and updates are in it, and setting up, validation and checkpoints are not. The allocator
is set as `asterism train` sets it, for all. UGT's item vectors and codes are drawn: their values cost nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from asterism.config import EmbeddingConfig, ModelConfig, SemanticIdConfig, TrainingConfig
from asterism.core.errors import AsterismError
from asterism.core.memory import keep_freed_memory
from asterism.data.sequences import Sequences
from asterism.data.split import Split
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.batches import trainable_rows
from asterism.training.loop import Run, Validation, fit
from peer_libraries.transformers import BATCH_USERS, COSINE, NEGATIVES, frame
from peers import commit, load_split

PUBLIC_DATA = ("amazon-office-2014", "amazon-beauty-2014")
MODEL = ModelConfig(width=64, blocks=2, heads=2, max_events=50, dropout=0.5)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """What all contenders do."""

    split: Split
    steps: int
    precision: str
    seed: int


@dataclass(slots=True)
class StepClock:
    """When each step began, and how many events it trained on."""

    events: list[int] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def step(self, events: int) -> None:
        """A step begins."""
        self.events.append(events)
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def take(self) -> Row:
        """Events a second of wall and of CPU time, and the clock back at its start.

        From the second step, which no longer pays for first allocations, to the start of the last one.
        """
        if len(self.wall) < 3:
            raise AsterismError(f"{len(self.wall)} steps were seen, which is too few to time; raise --steps")
        done = sum(self.events[1:-1])
        found = {
            "wall": done / (self.wall[-1] - self.wall[1]),
            "cpu": done / (self.cpu[-1] - self.cpu[1]),
            "events": done,
            "steps": len(self.wall) - 2,
        }
        self.events, self.wall, self.cpu = [], [], []
        return found


class Contender:
    """Trains so many steps by its own loop and tells the clock when each begins."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.clock = StepClock()

    def train(self, number: int) -> None:
        """The steps of one round."""
        raise NotImplementedError


class OurTransformer(Contender):
    """UGT in `asterism.training.loop.fit`, on as many users as the steps take."""

    def __init__(self, work: Work, training: TrainingConfig) -> None:
        super().__init__(work)
        torch.manual_seed(work.seed)
        settings = {"epochs": 1, "batch_users": BATCH_USERS, "precision": work.precision}
        self.training = training.model_copy(update=settings)
        shape = UGTShape(MODEL, self.training.temperature)
        self.model = UGT(drawn_features(len(work.split.items), work.seed), shape)
        self.model.register_forward_pre_hook(self._note)

    def _note(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        if model.training:
            self.clock.step(int(inputs[0].mask.sum()))

    def train(self, number: int) -> None:
        """An epoch over users drawn for this round."""
        users = drawn_users(self.work.split.train, self.work.steps * BATCH_USERS, self.work.seed + number)
        with tempfile.TemporaryDirectory() as folder:
            run = Run(
                model=self.model,
                train=users,
                config=self.training,
                seed=self.work.seed + number,
                folder=Path(folder),
                config_hash="",
                validate=lambda model: Validation(0.0, 0.0),
            )
            fit(run, resume=False)


class TheirTransformer(Contender):
    """A transformer of RecTools in lightning's loop, which ends its epoch after the steps."""

    def __init__(self, work: Work, kind: str, loss: dict[str, Any], **settings: Any) -> None:
        super().__init__(work)
        from pytorch_lightning import seed_everything
        from rectools import models
        from rectools.dataset import Dataset

        seed_everything(work.seed)
        size = {"n_blocks": MODEL.blocks, "n_heads": MODEL.heads, "n_factors": MODEL.width}
        equal = {"session_max_len": MODEL.max_events, "dropout_rate": MODEL.dropout, "batch_size": BATCH_USERS}
        self.model = getattr(models, kind)(**size, **equal, **loss, **settings, get_trainer_func=self._trainer)
        self.data = Dataset.construct(frame(work.split.train))

    def _trainer(self) -> Any:
        from pytorch_lightning import Trainer
        from pytorch_lightning.callbacks import LambdaCallback

        clock = self.clock
        note = LambdaCallback(on_train_batch_start=lambda trainer, module, batch, at: clock.step(targets_in(batch)))
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        precision = "bf16-mixed" if self.work.precision == "bf16" else "32-true"
        limits = {"max_epochs": 1, "limit_train_batches": self.work.steps, "accelerator": "auto", "devices": 1}
        return Trainer(**quiet, **limits, precision=precision, callbacks=[note])

    def train(self, number: int) -> None:
        """An epoch that is cut after the steps, over users in a new order."""
        self.model.fit_partial(self.data, min_epochs=1, max_epochs=1)


def targets_in(batch: dict[str, torch.Tensor]) -> int:
    """How many positions of RecTools' batch are no padding and so are asked for an item."""
    return int((batch["y"] != 0).sum())


def drawn_features(items: int, seed: int) -> ItemFeatures:
    """Item vectors and codes of the sizes that the default configuration makes."""
    random = np.random.default_rng(seed)
    ids = SemanticIdConfig()
    codes = torch.from_numpy(random.integers(0, ids.codes, (items, ids.levels)))
    content = torch.from_numpy(random.standard_normal((items, EmbeddingConfig().width), dtype=np.float32))
    return ItemFeatures(codes, (ids.codes,) * ids.levels, nn.functional.normalize(content, dim=1))


def drawn_users(train: Sequences, users: int, seed: int) -> Sequences:
    """So many of those with something to predict; all where there are not so many."""
    rows = np.random.default_rng(seed).permutation(trainable_rows(train))
    return train.take(rows[:users])


SOFTMAX = {"loss": "softmax"}
SAMPLED = {"loss": "sampled_softmax", "n_negatives": NEGATIVES}  # drawn for each position; ours are shared by the batch
CONTENDERS: dict[str, tuple[str, Callable[[Work], Contender]]] = {
    "ugt_sampled": (
        f"item loss over {TrainingConfig().negatives} shared negatives + code loss",
        partial(OurTransformer, training=TrainingConfig()),
    ),
    "sasrec_sampled": (
        f"softmax over {NEGATIVES} negatives a position",
        partial(TheirTransformer, kind="SASRecModel", loss=SAMPLED),
    ),
    "hstu_sampled": (
        f"softmax over {NEGATIVES} negatives a position",
        partial(TheirTransformer, kind="HSTUModel", loss=SAMPLED, **COSINE),
    ),
    "ugt_full": (
        "softmax over the catalogue; code loss of weight 0",
        partial(OurTransformer, training=TrainingConfig(negatives=0, code_loss_weight=0.0)),
    ),
    "sasrec_full": ("softmax over the catalogue", partial(TheirTransformer, kind="SASRecModel", loss=SOFTMAX)),
    "hstu_full": ("softmax over the catalogue", partial(TheirTransformer, kind="HSTUModel", loss=SOFTMAX, **COSINE)),
}


def measure(name: str, work: Work, wanted: list[str], rounds: int) -> list[Row]:
    """A row a contender, all of one data set; where a library is absent, the row says so."""
    rows: dict[str, Row] = {}
    ready: dict[str, Contender] = {}
    for one in wanted:
        loss, make = CONTENDERS[one]
        rows[one] = {"data": name, "contender": one, "loss": loss}
        try:
            ready[one] = make(work)
        except ImportError as error:
            rows[one]["error"] = f"{error}; install what the head of {Path(__file__).name} names"
    seen: dict[str, list[Row]] = {one: [] for one in ready}
    for number in range(rounds):
        for one, contender in ready.items():
            contender.train(number)
            seen[one].append(contender.clock.take())
            print(f"{name}, round {number + 1}: {one} {seen[one][-1]['wall']:,.0f} events/s", file=sys.stderr)
    return [rows[one] | (summary(seen[one]) if one in ready else {}) for one in wanted]


def summary(rounds: list[Row]) -> Row:
    """Medians over rounds, the slowest and fastest round, and how much was trained on in all."""
    wall = [one["wall"] for one in rounds]
    return {
        "events_per_second": round(statistics.median(wall)),
        "slowest": round(min(wall)),
        "fastest": round(max(wall)),
        "events_per_cpu_second": round(statistics.median(one["cpu"] for one in rounds)),
        "events": sum(one["events"] for one in rounds),
        "steps": sum(one["steps"] for one in rounds),
    }


def print_table(rows: list[Row]) -> None:
    """Markdown, in the order in which the contenders were asked."""
    print("| data | contender | loss | events/s | slowest–fastest round | events/CPU s | steps |")
    print("|---" * 7 + "|")
    for row in rows:
        head = f"| {row['data']} | {row['contender']} | {row['loss']} |"
        if "error" in row:
            print(f"{head} {row['error']} | | | |")
            continue
        spread = f"{row['slowest']:,}–{row['fastest']:,}"
        figures = (f"{row['events_per_second']:,}", spread, f"{row['events_per_cpu_second']:,}", str(row["steps"]))
        print(f"{head} " + " | ".join(figures) + " |")


def main() -> None:
    """Parse the arguments; measure one data set after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(PUBLIC_DATA))
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|rectools|pydantic).*")
    rows: list[Row] = []
    for name in arguments.data:
        data, split = load_split(name)
        work = Work(split, arguments.steps, arguments.precision, arguments.seed)
        rows += measure(data, work, arguments.only, arguments.rounds)
    print_table(rows)
    settings = {key: getattr(arguments, key) for key in ("steps", "rounds", "threads", "precision", "seed")}
    print(json.dumps({"benchmark": "training_throughput", "commit": commit(), **settings, "rows": rows}))


if __name__ == "__main__":
    try:
        main()
    except AsterismError as error:
        sys.exit(str(error))
