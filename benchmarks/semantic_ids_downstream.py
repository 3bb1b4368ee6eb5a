"""What semantic ids are worth: the same small recommender trained on each method's codes.

    python benchmarks/semantic_ids_downstream.py [--data amazon-office-2014 …] [--methods …] [--seeds 0 1 2]
                                                 [--epochs N] [--text-model NAME] [--fusion NAME] [--rows FILE]

For each data set (a folder, or a name under ASTERISM_DATA) the item vectors are made once. Each method then fits its
codes with each seed, and a UGT of width 64 is trained on them for the same number of epochs; the best epoch by
validation is asked. `code` is the code decoder alone, `item` the same beam re-scored by the item head.
A method followed by `:moved` moves colliding items to free codes before de-duplication; `published` stands for codes
in the catalogue's column `published_sid`. With --rows, finished rows are kept in a file and not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from asterism.config import EmbeddingConfig, RunConfig, parse_run_config
from asterism.core import records
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.locating import data_home, resolve_data
from asterism.data.sequences import Cases
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding import Generator, Mode
from asterism.embeddings import ItemEmbedder
from asterism.evaluation.metrics import ndcg, recall, target_ranks
from asterism.models.ugt import UGT
from asterism.semantic_ids import METHODS, Quantizer, adopt, build_semantic_ids, parse_paths, report
from asterism.training.pipeline import train_model

PUBLISHED = "published"
MOVED = ":moved"
PUBLIC_DATA = ("amazon-beauty-2014", "amazon-office-2014", "minionerec-industrial")
CUTOFF = 10
BEAM = 100
MODES: dict[str, Mode] = {"code": "generate", "item": "rescored"}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """One data set with the vectors of its items."""

    name: str
    config: RunConfig
    split: Split
    items: pa.Table  # with brands as categories where there are no categories
    vectors: NDArray[np.float32]


def load_world(name: str, epochs: int, text_model: str, fusion: str) -> World:
    """Read a data set and make the vectors of its items (seed 0, whatever the seed of codes and training)."""
    folder = Path(name).resolve() if Path(name).is_dir() else Path(name)
    config = small_recommender(str(folder), epochs, text_model, fusion)
    dataset = resolve_data(config.data, Path.cwd())
    if records.SPLIT in dataset.interactions.column_names:
        config = config.model_copy(update={"data": config.data.model_copy(update={"split": "by_column"})})
    split = split_dataset(dataset, config.data)
    _, vectors = ItemEmbedder.fit(dataset.items, split.train, config.embeddings, 0)
    label = folder.name if fusion == EmbeddingConfig().fusion else f"{folder.name}, {fusion} fusion"
    return World(label, config, split, with_labels(dataset.items), vectors)


def small_recommender(folder: str, epochs: int, text_model: str, fusion: str) -> RunConfig:
    """The configuration that all methods share."""
    training = {"epochs": epochs, "patience": epochs, "temperature": 0.05, "negatives": 2048}
    raw = {
        "name": folder,
        "data": {"path": folder},
        "embeddings": {"text_model": text_model, "fusion": fusion},
        "training": training,
        "decoding": {"beam": BEAM},
    }
    return parse_run_config(raw, source="the benchmark's configuration")


def with_labels(items: pa.Table) -> pa.Table:
    """The catalogue; where no item has a category, its brand counts as one."""
    columns = items.column_names
    if records.CATEGORIES in columns and any(items[records.CATEGORIES].to_pylist()):
        return items
    if records.BRAND not in columns:
        return items
    brands = pa.array([[one] if one else [] for one in items[records.BRAND].to_pylist()], pa.list_(pa.string()))
    kept = items.drop_columns([records.CATEGORIES]) if records.CATEGORIES in columns else items
    return kept.append_column(records.CATEGORIES, brands)


def measure(world: World, method: str, seed: int) -> Row:
    """Codes by one method, the recommender trained on them, and what both are worth."""
    config = world.config.model_copy(update={"seed": seed})
    started = time.process_time()
    table, quantizer = make_codes(world, method, seed)
    fit_cpu_seconds = time.process_time() - started
    found = report(table, quantizer, world.vectors, world.items)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model, result = train_model(config, world.split, world.vectors, table, Path(folder))
    train_seconds = time.perf_counter() - started
    model.eval()
    return {
        "data": world.name,
        "method": method,
        "seed": seed,
        "commit": commit(),
        "fit_cpu_seconds": round(fit_cpu_seconds, 1),
        "collisions_nearest": found.collision_rate_nearest,
        "collisions_before": found.collision_rate_before,
        "moved_items": found.moved_items,
        "used": [one.used_codes for one in found.levels[:-1]],
        "perplexity": [one.perplexity for one in found.levels[:-1]],
        "error": [one.relative_error for one in found.levels[:-1]],
        "purity": [one.purity for one in found.levels[:-1]],
        "neighbours_kept": found.neighbour_overlap,
        "train_seconds": round(train_seconds),
        "best_epoch": result.best_epoch,
        "validation": ask(model, table, config, world.split.validation),
        "test": ask(model, table, config, world.split.test),
    }


def make_codes(world: World, method: str, seed: int) -> tuple[SemanticIdTable, Quantizer]:
    """The table of one method and its quantiser."""
    if method == PUBLISHED:
        ids = world.items[records.ITEM_ID].to_pylist()
        return adopt(parse_paths(ids, world.items["published_sid"].to_pylist(), world.name).paths, world.vectors)
    name = method.removesuffix(MOVED)
    changes = {"method": name, "reassign_colliding": method.endswith(MOVED)}
    return build_semantic_ids(world.vectors, world.config.semantic_ids.model_copy(update=changes), seed)


def ask(model: UGT, table: SemanticIdTable, config: RunConfig, cases: Cases) -> dict[str, dict[str, float]]:
    """Recall and NDCG at 10 over all cases, the history excluded, with and without the item head."""
    generator = Generator(model, table, config.decoding)
    found = {}
    for name, mode in MODES.items():
        lists = generator.recommend(cases.histories, CUTOFF, exclude_history=True, mode=mode, progress=True)
        ranks = target_ranks(lists.items, cases.targets)
        found[name] = {"recall": float(recall(ranks, CUTOFF).mean()), "ndcg": float(ndcg(ranks, CUTOFF).mean())}
    return found


def known_data() -> list[str]:
    """The public data sets that lie under ASTERISM_DATA."""
    return [name for name in PUBLIC_DATA if (data_home() / name).is_dir()]


def commit() -> str:
    """The commit of the code that runs, marked where the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def summarise(rows: list[Row]) -> list[Row]:
    """Means over seeds, a row for each data set and method."""
    keys = sorted({(row["data"], row["method"]) for row in rows})
    return [_summary([row for row in rows if (row["data"], row["method"]) == key]) for key in keys]


def _summary(rows: list[Row]) -> Row:
    first = rows[0]
    scores = {
        f"{part}_{mode}_{metric}": round(statistics.fmean(row[part][mode][metric] for row in rows), 4)
        for part in ("validation", "test")
        for mode in MODES
        for metric in ("recall", "ndcg")
    }
    spread = statistics.stdev(row["validation"]["item"]["ndcg"] for row in rows) if len(rows) > 1 else None
    return {
        "data": first["data"],
        "method": first["method"],
        "seeds": len(rows),
        "collisions": round(statistics.fmean(row["collisions_before"] for row in rows), 4),
        "used": first["used"],
        "purity": [None if one is None else round(one, 3) for one in first["purity"]],
        "error": round(statistics.fmean(row["error"][-1] for row in rows), 3),
        "fit_cpu_seconds": round(statistics.fmean(row["fit_cpu_seconds"] for row in rows), 1),
        "train_seconds": round(statistics.fmean(row["train_seconds"] for row in rows)),
        **scores,
        "validation_item_ndcg_spread": None if spread is None else round(spread, 4),
    }


def print_table(summary: list[Row]) -> None:
    """The means as a Markdown table: recall/NDCG of codes alone, and with the item head."""
    names = ("data", "method", "collisions", "used", "purity", "error", "fit CPU s")
    scores_of = ("code val", "item val", "code test", "item test")
    print("| " + " | ".join([*names, *scores_of]) + " |")
    print("|---" * len([*names, *scores_of]) + "|")
    for row in summary:
        scores = (
            f"{row[f'{part}_{mode}_recall']:.4f}/{row[f'{part}_{mode}_ndcg']:.4f}"
            for part in ("validation", "test")
            for mode in MODES
        )
        used = "/".join(map(str, row["used"]))
        purity = "/".join("–" if one is None else f"{one:.2f}" for one in row["purity"])
        cells = [row["data"], row["method"], f"{row['collisions']:.2%}", used, purity, f"{row['error']:.3f}"]
        print("| " + " | ".join([*cells, str(row["fit_cpu_seconds"]), *scores]) + " |")


def main() -> None:
    """Parse the arguments; measure what is not in the file of rows yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=known_data())
    parser.add_argument("--methods", nargs="+", default=[f"{name}{MOVED}" for name in METHODS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--text-model", default=EmbeddingConfig().text_model)
    parser.add_argument("--fusion", default=EmbeddingConfig().fusion)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    if arguments.rows and arguments.rows.is_file():
        rows = [json.loads(line) for line in arguments.rows.read_text(encoding="utf-8").splitlines()]
    done = {(row["data"], row["method"], row["seed"]) for row in rows}
    for name in arguments.data:
        world = load_world(name, arguments.epochs, arguments.text_model, arguments.fusion)
        for method in arguments.methods:
            for seed in arguments.seeds:
                if (world.name, method, seed) in done:
                    continue
                print(f"{world.name}: {method}, seed {seed}", file=sys.stderr)
                rows.append(measure(world, method, seed))
                if arguments.rows:
                    with arguments.rows.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(rows[-1]) + "\n")
    summary = summarise(rows)
    print_table(summary)
    settings = {"epochs": arguments.epochs, "seeds": arguments.seeds, "threads": arguments.threads, "beam": BEAM}
    print(json.dumps({"benchmark": "semantic_ids_downstream", **settings, "rows": summary}))


if __name__ == "__main__":
    main()
