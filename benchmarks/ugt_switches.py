"""What a training step of UGT costs with each switch on, in CPU time, on one thread.

    python benchmarks/ugt_switches.py [--steps N] [--only NAME ...]

Random histories of 51 events (or as many as windows read), 64 users a batch, 12,000 items, width 64, two
blocks. Variants take turns, step by step, so that other load falls on all alike; the least time of each counts.
The first variant comes twice: the difference between the two is the noise.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from asterism.config import ModelConfig, TrainingConfig
from asterism.core.progress import track
from asterism.data.sequences import Sequences
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.batches import make_batch
from asterism.training.objective import NextItemObjective

ITEMS, USERS, EVENTS, SEED = 12_000, 64, 50, 0
GROUPS: dict[str, object] = dict.fromkeys(
    ("actions", "values", "time_gaps", "contexts", "asked", "user_attributes", "group_norm"), True
)
VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "plain again": {},
    **{name: {name: True} for name in GROUPS},
    "experts = 1": {"experts": 1},
    "experts = 4, k = 2": {"experts": 4},
    "experts = 8, k = 1": {"experts": 8, "expert_top_k": 1},
    "summaries = 8 of 1000": {"summaries": 8, "max_history": 1_000},
    "summaries = 8 of 10000": {"summaries": 8, "max_history": 10_000},
    "all of these, experts = 4, 1000 events": {**GROUPS, "experts": 4, "summaries": 8, "max_history": 1_000},
}


class Trial:
    """One variant with its own model, optimiser and histories."""

    def __init__(self, switches: dict[str, object]) -> None:
        random = np.random.default_rng(SEED)
        torch.manual_seed(SEED)
        config = ModelConfig(width=64, blocks=2, max_events=EVENTS).model_copy(update=switches)
        content = torch.nn.functional.normalize(torch.randn(ITEMS, 256), dim=1)
        features = ItemFeatures(torch.from_numpy(random.integers(0, 256, (ITEMS, 4))), (256,) * 4, content)
        model = UGT(features, UGTShape(config, temperature=0.07))
        self.objective = NextItemObjective(model, TrainingConfig(), torch.ones(model.items.count)).train()
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.histories = random_histories(config.events_read + 1, random)

    def step_seconds(self) -> float:
        """CPU seconds of a batch, its loss, its gradients and the update."""
        started = time.process_time()
        batch = make_batch(self.histories, np.arange(USERS), self.objective.model.layout)
        loss = self.objective(batch).total + 0.01 * self.objective.model.auxiliary_loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - started


def random_histories(events: int, random: np.random.Generator) -> Sequences:
    """Rows of so many events, with every column."""
    total = USERS * events
    return Sequences(
        np.arange(0, total + 1, events),
        random.integers(0, ITEMS, total).astype(np.int32),
        np.tile(np.arange(events) * 1_000, USERS),
        random.integers(0, 10, total).astype(np.int8),
        random.integers(1, 6, total).astype(np.float32),
        random.integers(0, 5, total).astype(np.uint16),
        random.integers(0, 5, total).astype(np.uint16),
        random.integers(1, 99, (USERS, 3)).astype(np.int32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trials = {name: Trial(VARIANTS[name]) for name in dict.fromkeys(["plain", *arguments.only])}
    seconds: dict[str, list[float]] = {name: [] for name in trials}
    for _ in track(range(arguments.steps), "training steps"):
        for name, trial in trials.items():
            seconds[name].append(trial.step_seconds())
    least = {name: min(times[1:]) for name, times in seconds.items()}
    found = {name: {"ms": round(1e3 * one), "ratio": round(one / least["plain"], 2)} for name, one in least.items()}
    print(json.dumps({"benchmark": "ugt_switches", "steps": arguments.steps, "seed": SEED, "step": found}))


if __name__ == "__main__":
    main()
