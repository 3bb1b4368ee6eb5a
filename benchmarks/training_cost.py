"""What a training step of UGT costs, in CPU time and memory, against the length of histories and the catalogue.

    python benchmarks/training_cost.py [--events N ...] [--items N ...] [--steps N] [--plot FILE]

Random histories on one thread, width 64, two blocks, every point in a process of its own. History: four users,
every event a token of its own (as long as the scores of attention fit), or the newest 50 and eight windows over
the rest. Catalogue: 64 users of 20 events, content vectors of width 64; the code head alone, with 2,048 drawn
items, with a vector of its own for every item, and with the softmax over the whole catalogue where it fits. Codes
are random, so that nearly every item has a prefix of its own: the most vectors that the code head can have. The
least time of the steps counts; memory is what the process grew by at its peak, the catalogue included. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asterism.config import ModelConfig, TrainingConfig
from asterism.core.progress import track
from asterism.data.sequences import Sequences
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.batches import make_batch
from asterism.training.loop import make_optimizer
from asterism.training.objective import NextItemObjective

SEED, CONTENT, CODES = 0, 64, 256
MOST_TOKENS = 2_000  # one by one: beyond, the scores of four users take over 2 GB
MOST_IN_SOFTMAX = 100_000
EVENTS, ITEMS = [50, 200, 1_000, 2_000, 5_000, 10_000], [10_000, 100_000, 1_000_000]
NAMES = {
    "one_by_one": "every event a token",
    "windows": "50 newest and 8 windows",
    "codes": "code head alone",
    "drawn": "and 2,048 drawn items",
    "own_vectors": "and a vector of its own for each item",
    "whole": "and the softmax over all items",
}


def history_points(lengths: list[int]) -> list[dict[str, Any]]:
    """Both ways to read histories of these lengths."""
    points = []
    for events in lengths:
        shared = {"events": events, "items": 12_000, "users": 4, "training": {}}
        if events <= MOST_TOKENS:
            points.append({**shared, "variant": "one_by_one", "model": {"max_events": events}})
        if events >= 100:
            windows = {"max_events": 50, "summaries": 8, "max_history": events}
            points.append({**shared, "variant": "windows", "model": windows})
    return points


def catalogue_points(sizes: list[int]) -> list[dict[str, Any]]:
    """The heads on catalogues of these sizes."""
    variants: dict[str, tuple[dict[str, object], dict[str, object]]] = {
        "codes": ({"id_vectors": False}, {"item_loss_weight": 0.0, "negatives": 1}),
        "drawn": ({"id_vectors": False}, {}),
        "own_vectors": ({}, {}),
        "whole": ({"id_vectors": False}, {"negatives": 0}),
    }
    return [
        {"events": 20, "items": items, "users": 64, "variant": name, "model": model, "training": training}
        for items in sizes
        for name, (model, training) in variants.items()
        if name != "whole" or items <= MOST_IN_SOFTMAX
    ]


def measure(point: dict[str, Any], steps: int) -> dict[str, Any]:
    """CPU milliseconds of a step (batch, loss, gradients, update), peak MB and learned numbers, in its own process."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(point, steps, send))
    process.start()
    send.close()
    try:
        found: dict[str, Any] = receive.recv()
    except EOFError:
        raise SystemExit(f"the process of {point} died; it may have found too little memory") from None
    finally:
        process.join()
    return {name: point[name] for name in ("variant", "events", "items")} | found


def _run(point: dict[str, Any], steps: int, send: Any) -> None:
    before = _peak_mb()
    random = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    config = ModelConfig(width=64, blocks=2).model_copy(update=point["model"])
    training = TrainingConfig().model_copy(update=point["training"])
    codes = torch.from_numpy(random.integers(0, CODES, (point["items"], 4)))
    features = ItemFeatures(codes, (CODES,) * 4, torch.randn(point["items"], CONTENT))
    model = UGT(features, UGTShape(config, temperature=training.temperature))
    objective = NextItemObjective(model, training, torch.ones(point["items"])).train()
    optimizer = make_optimizer(objective, training)
    histories = _histories(point, random)
    seconds = []
    for _ in range(steps + 1):
        started = time.process_time()
        objective(make_batch(histories, np.arange(point["users"]), model.layout)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - started)
    learned = sum(one.numel() for one in objective.parameters()) / 1e6
    found = {"cpu_ms": round(1e3 * min(seconds[1:]), 1), "peak_mb": round(_peak_mb() - before)}
    send.send(found | {"learned_millions": round(learned, 2)})


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _histories(point: dict[str, Any], random: np.random.Generator) -> Sequences:
    length = point["events"] + 1  # the last one is asked for
    total = point["users"] * length
    return Sequences(
        np.arange(0, total + 1, length),
        random.integers(0, point["items"], total).astype(np.int32),
        np.tile(np.arange(length) * 1_000, point["users"]),
        np.ones(total, dtype=np.int8),
    )


def plot(history: list[dict[str, Any]], catalogue: list[dict[str, Any]], target: Path) -> None:
    """Time above memory; histories on the left, the catalogue on the right."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    for column, (rows, along) in enumerate(((history, "events"), (catalogue, "items"))):
        for upper, (figures, label) in enumerate((("cpu_ms", "CPU ms a step"), ("peak_mb", "peak MB"))):
            axis = axes[upper][column]
            for name in dict.fromkeys(row["variant"] for row in rows):
                points = [(row[along], row[figures]) for row in rows if row["variant"] == name]
                axis.plot(*zip(*points, strict=True), marker="o", label=NAMES[name])
            axis.set(xscale="log", yscale="log", ylabel=label)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_minor_formatter(NullFormatter())
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.grid(alpha=0.3)
        axes[1][column].set_xlabel(
            {"events": "events of a history, 4 users", "items": "items, 64 users of 20 events"}[along]
        )
        axes[0][column].legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(target, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=EVENTS)
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    points = [history_points(arguments.events), catalogue_points(arguments.items)]
    found = [[measure(one, arguments.steps) for one in track(part, "training steps")] for part in points]
    if arguments.plot is not None:
        plot(found[0], found[1], arguments.plot)
    report = {"benchmark": "training_cost", "seed": SEED, "steps": arguments.steps}
    print(json.dumps(report | {"history": found[0], "catalogue": found[1]}))


if __name__ == "__main__":
    main()
