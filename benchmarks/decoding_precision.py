"""What fewer bits, and states resumed beyond the window, cost a trained bundle: lists compared, and NDCG@10 on test.

    asterism train --config configs/office.toml --output office
    python benchmarks/decoding_precision.py --bundle office

Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.core.bundle import Bundle
from asterism.core.progress import track
from asterism.data.locating import resolve_data
from asterism.data.sequences import Cases, Sequences
from asterism.data.splits import split_dataset
from asterism.decoding.generator import Generator
from asterism.decoding.loading import load_recommender
from asterism.decoding.state_cache import CacheLimits
from asterism.evaluation.metrics import ndcg, target_ranks
from asterism.models.ugt.inference import InferenceUGT
from asterism.models.ugt.inference.resumption import memory_shape

LENGTH = 10
BATCH = 256
Lists = NDArray[np.int64]


def lists_of(generator: Generator, cases: Cases, name: str) -> Lists:
    """(cases, 10) what is recommended, history excluded."""
    starts = range(0, len(cases), BATCH)
    parts = [
        generator.recommend(
            cases.histories.take(np.arange(start, min(start + BATCH, len(cases)))), LENGTH, exclude_history=True
        ).items
        for start in track(starts, name)
    ]
    return np.concatenate(parts)


def overlap(one: Lists, other: Lists) -> float:
    """The mean share of items that two lists of a case have in common."""
    return float(np.mean([len(set(a) & set(b)) / LENGTH for a, b in zip(one.tolist(), other.tolist(), strict=True)]))


def shortened(cases: Cases, events: int) -> Sequences:
    """The histories without their newest events."""
    histories = cases.histories
    return histories.slices(histories.offsets[:-1], np.maximum(histories.offsets[:-1], histories.offsets[1:] - events))


def returning_lists(generator: Generator, cases: Cases, events: int, name: str) -> Lists:
    """The same where all users were first seen `events` events earlier, and have come back after each since."""
    keys = [str(case) for case in range(len(cases))]
    found: Lists = np.empty((0, LENGTH), dtype=np.int64)
    for back in track(range(events, -1, -1), name):
        histories = shortened(cases, back)
        parts = []
        for start in range(0, len(cases), BATCH):
            rows = np.arange(start, min(start + BATCH, len(cases)))
            users = keys[start : start + BATCH]
            answer = generator.recommend(histories.take(rows), LENGTH, exclude_history=True, users=users)
            parts.append(answer.items)
        found = np.concatenate(parts)
    return found


def accuracy(lists: Lists, cases: Cases) -> float:
    return round(float(ndcg(target_ranks(lists, cases.targets), LENGTH).mean()), 5)


def main() -> None:
    """Parse the arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=5000, help="of the test part, at most")
    parser.add_argument("--slides", type=int, nargs="*", default=[1, 5, 10, 25], help="events since all was computed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.open(arguments.bundle)
    trained = load_recommender(bundle)
    split = split_dataset(resolve_data(trained.config.data, Path(bundle.fact("config_folder"))), trained.config.data)
    cases = split.cases("test")
    cases = cases.take(np.arange(min(arguments.cases, len(cases))))
    exact = lists_of(trained.generator, cases, "fp32")
    reference = Generator(trained.policy, trained.semantic_ids, trained.config.decoding, heads=trained.generator._heads)
    found: dict[str, object] = {"cases": len(cases)}
    found["reference"] = {
        "overlap": overlap(exact, lists_of(reference, cases, "reference")),
        "ndcg_at_10": accuracy(exact, cases),
    }
    for precision in ("bf16", "int8"):
        lists = lists_of(load_recommender(bundle, precision=precision).generator, cases, precision)
        found[precision] = {"overlap": round(overlap(exact, lists), 4), "ndcg_at_10": accuracy(lists, cases)}
    found |= resumed(bundle, cases, exact, arguments.slides, trained.config.model.max_events)
    for name, figures in found.items():
        print(f"{name:32s} {json.dumps(figures)}", file=sys.stderr)
    print(json.dumps({"benchmark": "decoding_precision", "bundle": bundle.fact("dataset"), **found}))


def resumed(bundle: Bundle, cases: Cases, exact: Lists, slides: list[int], window: int) -> dict[str, object]:
    """Lists of users who come back, against those of full computations, all in fp32 but what is compressed."""
    found: dict[str, object] = {}
    short = np.flatnonzero((cases.histories.lengths > 1) & (cases.histories.lengths <= window))
    limits = {
        "kept": CacheLimits(1 << 30, compressed_share=0.0),
        "compressed": CacheLimits(1 << 30, compressed_share=1 - (BATCH + 0.5) * user_bytes(bundle) / (1 << 30)),
    }
    for name, limit in limits.items():
        generator = load_recommender(bundle, state_cache=limit).generator
        lists = returning_lists(generator, cases.take(short), 1, name)
        found[name] = {"users": len(short), "overlap": round(overlap(exact[short], lists), 4)}
    for count in slides:
        long = np.flatnonzero(cases.histories.lengths >= window + count)
        generator = load_recommender(bundle, state_cache=CacheLimits(1 << 30, 0.0, count)).generator
        lists = returning_lists(generator, cases.take(long), count, f"{count} slides")
        found[f"after {count} slides"] = {
            "users": len(long),
            "overlap": round(overlap(exact[long], lists), 4),
            "ndcg_at_10": accuracy(lists, cases.take(long)),
            "ndcg_at_10_exact": accuracy(exact[long], cases.take(long)),
        }
    return found


def user_bytes(bundle: Bundle) -> int:
    """What a user of the bundle's model takes uncompressed."""
    policy = InferenceUGT(load_recommender(bundle).policy)
    return memory_shape(policy.encoder, compressed=False).bytes


if __name__ == "__main__":
    main()
