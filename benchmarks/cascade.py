"""Quality against cost of the cascade: how many items are generated, and how many of them all heads look at.

    python benchmarks/cascade.py BUNDLE [--generated N ...] [--kept N ...] [--cases N] [--requests N] [--plot FILE]

NDCG@10 on the validation cases of the bundle's data, histories excluded. For each pair of widths the fusion weights
are chosen on one half of the cases and measured on the other, both ways round, so that no width profits from weights
that were chosen for another one; differences are taken against the generated width nearest to the bundle's, of which
all are kept. CPU time is that of `Generator.recommend` on one thread for requests one at a time and 32 at a time, the
least of the rounds, all settings taking turns. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import DecodingConfig
from asterism.core.bundle import Bundle
from asterism.core.progress import track
from asterism.data.locating import resolve_data
from asterism.data.sequences import Cases
from asterism.data.splits import split_dataset
from asterism.decoding.content import ContentHead
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.loading import TrainedRecommender, load_recommender
from asterism.decoding.neighbours import NeighbourHead
from asterism.evaluation.metrics import NOT_FOUND, ndcg
from asterism.training.candidates import HEADS, keep_best, score_candidates
from asterism.training.fusion_weights import CUTOFF, CandidateScores, choose_weights, fused_ranks
from asterism.training.validation import sample_cases

GENERATED: Final = [10, 20, 50, 100, 200, 500, 1000, 2000]
KEPT: Final = [20, 50, 100, 200]
Values = NDArray[np.float64]
BATCHES: Final = {"alone": 1, "batched": 32}


class World(NamedTuple):
    """A bundle, the cases it is asked about, and all heads."""

    trained: TrainedRecommender
    cases: Cases
    heads: HistoryHeads


def load(bundle: Path, cases: int | None, seed: int) -> World:
    trained = load_recommender(Bundle.open(bundle))
    config = trained.config
    split = split_dataset(resolve_data(config.data, Path(trained.bundle.fact("config_folder"))), config.data)
    heads = HistoryHeads(ContentHead(trained.item_vectors), NeighbourHead.learn(split.train, len(split.items)))
    return World(trained, sample_cases(split.validation, cases, seed), heads)


def pairs_of_widths(generated: list[int], kept: list[int]) -> list[tuple[int, int]]:
    """All (generated, kept) that differ; kept 0 stands for all."""
    return [(wide, narrow) for wide in generated for narrow in [0, *kept] if narrow < wide]


def decoding(generated: int, kept: int, weights: dict[str, float]) -> DecodingConfig:
    return DecodingConfig(beam=generated, kept=kept, **{f"{head}_weight": one for head, one in weights.items()})


def measure_quality(
    world: World, generated: int, kept: list[int]
) -> dict[tuple[int, int], tuple[dict[str, Any], Values]]:
    """What is found with each of the kept widths that is narrower than the generated one, and each case's NDCG@10."""
    trained = world.trained
    start = trained.config.decoding.model_copy(update={"beam": generated, "kept": 0})
    candidates = score_candidates(trained.policy, trained.semantic_ids, world.heads, world.cases, start)
    found = {}
    for width, narrow in pairs_of_widths([generated], kept):
        left = keep_best(candidates, narrow) if narrow else candidates
        values = cross_chosen_ndcg(left, start)
        figures = {
            "generated": width,
            "kept": narrow,
            "ndcg_at_10": round(float(values.mean()), 5),
            "target_left": round(float((left.targets != NOT_FOUND).mean()), 5),
        }
        found[width, narrow] = figures, values
        print(json.dumps(figures), file=sys.stderr)
    return found


def against(values: Values, reference: Values) -> dict[str, float]:
    """The mean difference of the same cases, and its standard error."""
    difference = values - reference
    error = difference.std() / np.sqrt(len(difference))
    return {"difference": round(float(difference.mean()), 5), "standard_error": round(float(error), 5)}


def cross_chosen_ndcg(candidates: CandidateScores, start: DecodingConfig) -> Values:
    """(cases,) NDCG@10 of each half of the cases under weights that the other half chose."""
    weights = np.array([getattr(start, f"{head}_weight") for head in HEADS], dtype=float)
    values = np.zeros(len(candidates.targets))
    for half in range(2):
        chosen = choose_weights(_half(candidates, 1 - half), weights).weights
        values[half::2] = ndcg(fused_ranks(_half(candidates, half), chosen), CUTOFF)
    return values


def _half(candidates: CandidateScores, half: int) -> CandidateScores:
    one = slice(half, None, 2)
    return CandidateScores(candidates.scores[:, one], candidates.present[one], candidates.targets[one])


def measure_cost(world: World, pairs: list[tuple[int, int]], requests: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of CPU time a request, by batch and pair of widths; every head has weight."""
    trained = world.trained
    weights = dict.fromkeys(HEADS, 1.0)
    generators = [
        Generator(trained.policy, trained.semantic_ids, decoding(*pair, weights), heads=world.heads) for pair in pairs
    ]
    histories = world.cases.histories.take(np.arange(min(requests, len(world.cases))))
    best = {name: [float("inf")] * len(pairs) for name in BATCHES}
    for number in track(range(-1, rounds), "rounds of requests"):
        for name, size in BATCHES.items():
            asked = histories if size > 1 or number >= 0 else histories.take(np.arange(3))
            parts = [asked.take(np.arange(at, min(at + size, len(asked)))) for at in range(0, len(asked), size)]
            for place, one in enumerate(generators):
                started = time.process_time()
                for part in parts:
                    one.recommend(part, CUTOFF, exclude_history=True, code_log_probs=False)
                spent = 1e6 * (time.process_time() - started) / len(asked)
                if number >= 0:  # the round before warms up
                    best[name][place] = round(min(best[name][place], spent), 1)
    return best


def plot(points: list[dict[str, Any]], title: str, file: Path) -> None:
    """NDCG@10 against CPU time; a line for each kept width, a point for each generated one."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"alone": "one request at a time", "batched": f"{BATCHES['batched']} requests at a time"}
    for panel, name in zip(panels, BATCHES, strict=True):
        for kept in sorted({one["kept"] for one in points}):
            line = [one for one in points if one["kept"] == kept]
            across, up = [one[f"{name}_us"] / 1e3 for one in line], [one["ndcg_at_10"] for one in line]
            label = f"the best {kept}" if kept else "all generated"
            width, size = (1.2, 4) if kept else (2.2, 6)
            panel.plot(across, up, marker="o", label=label, markersize=size, linewidth=width, zorder=2 if kept else 3)
            for x, y, one in zip(across, up, line, strict=True):
                if kept == 0:
                    number = panel.annotate(f"{one['generated']:,}", (x, y), (0, -14), textcoords="offset points")
                    number.set(
                        ha="center", size=8, weight="bold", path_effects=[withStroke(linewidth=3, foreground="white")]
                    )
        panel.set(xlabel="CPU time a request, ms", title=titles[name])
        panel.margins(x=0.07, y=0.12)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("NDCG@10 on validation")
    handles, labels = panels[0].get_legend_handles_labels()
    legend_title = "Ordered by all heads; bold numbers count the items generated, of which the item head chose the best"
    figure.legend(handles, labels, loc="outside lower center", ncols=5, title=legend_title, fontsize=9)
    figure.suptitle(title)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Parse the arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--generated", type=int, nargs="+", default=GENERATED)
    parser.add_argument("--kept", type=int, nargs="*", default=KEPT)
    parser.add_argument("--cases", type=int, help="validation cases at most; all where it is not given")
    parser.add_argument("--requests", type=int, default=96, help="that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = load(arguments.bundle, arguments.cases, arguments.seed)
    pairs = pairs_of_widths(arguments.generated, arguments.kept)
    costs = measure_cost(world, pairs, arguments.requests, arguments.rounds)
    found: dict[tuple[int, int], tuple[dict[str, Any], Values]] = {}
    for generated in arguments.generated:
        found |= measure_quality(world, generated, arguments.kept)
    reference = found[min(pairs, key=lambda pair: (pair[1], abs(pair[0] - world.trained.config.decoding.beam)))][1]
    points = [
        found[pair][0] | against(found[pair][1], reference) | {f"{name}_us": costs[name][place] for name in BATCHES}
        for place, pair in enumerate(pairs)
    ]
    if arguments.plot is not None:
        name = f"{world.trained.config.name}, {len(world.trained.item_ids):,} items, {len(world.cases):,} cases"
        plot(points, name, arguments.plot)
    settings = {name: getattr(arguments, name) for name in ("requests", "rounds", "seed")}
    print(json.dumps({"benchmark": "cascade", **settings, "cases": len(world.cases), "points": points}))


if __name__ == "__main__":
    main()
