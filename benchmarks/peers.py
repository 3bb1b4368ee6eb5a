"""Other libraries' recommenders beside this one: the same split, the same metrics code, one table.

    python -m venv peers && peers/bin/pip install torch==2.13.0
    peers/bin/pip install 'rectools[torch]' implicit 'pyarrow<22' safetensors rich    # RecTools brings NumPy 1
    PYTHONPATH=src peers/bin/python benchmarks/peers.py [--data amazon-office-2014 …] [--peers sasrec als …]
                                                        [--bundle DIR …] [--minutes 3] [--seed 0] [--rows FILE]

Every peer learns from the training part alone and is asked for 10 items of the whole catalogue on all validation and
test cases, the history excluded and included. RecTools' SASRec, BERT4Rec and HSTU train with our own rule: NDCG@10 on
validation after each round (an epoch, or the epochs that make 100 steps), the best round's weights kept, an end after
10 rounds without a better one or after `--minutes`; a row says which. `--bundle` adds recommenders that `asterism
train` made of the same data; they need NumPy 2, so ask them from our own environment, with the same --rows. A peer
whose library is absent has a row that says so. Minutes and seconds are CPU time of fitting, validation included, which
a busy machine does not stretch, with the allocator set as `asterism train` sets it; a bundle's are the wall time that
its training noted. With --rows, finished rows are kept in a file and not made again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asterism.config import RunConfig, parse_run_config
from asterism.core import records
from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, ConfigError
from asterism.core.memory import keep_freed_memory
from asterism.data.locating import data_home, resolve_data
from asterism.data.sequences import Cases
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding.loading import load_recommender
from asterism.evaluation.baselines import item_knn, markov, popularity
from asterism.evaluation.generated import GeneratedRecommender
from asterism.evaluation.metrics import mean_metrics, target_ranks
from asterism.evaluation.protocol import collect_lists
from asterism.evaluation.recommender import Recommender
from peer_libraries.matrix_models import fit_als, fit_bpr, fit_neighbours
from peer_libraries.task import CUTOFF, Task
from peer_libraries.transformers import COSINE, fit_transformer

PUBLIC_DATA = (
    "minionerec-industrial",
    "movielens-latest-small",
    "amazon-office-2014",
    "amazon-beauty-2014",
    "amazon-toys-2014",
)
PARTS = {
    f"{name}_{mode}": (name, mode == "excluded") for name in ("validation", "test") for mode in ("excluded", "included")
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """How to fit one recommender, and the packages whose versions its row names."""

    fit: Callable[[Task], Recommender]
    packages: tuple[str, ...] = ()


TRANSFORMERS = ("rectools", "pytorch-lightning", "torch")
PEERS = {
    "popularity": Peer(lambda task: popularity(task.split.train, len(task.split.items))),
    "markov": Peer(lambda task: markov(task.split.train, len(task.split.items))),
    "item_knn": Peer(lambda task: item_knn(task.split.train, len(task.split.items))),
    "implicit_cosine": Peer(fit_neighbours("CosineRecommender"), ("implicit",)),
    "implicit_bm25": Peer(fit_neighbours("BM25Recommender"), ("implicit",)),
    "als": Peer(fit_als, ("implicit",)),
    "bpr": Peer(fit_bpr, ("implicit",)),
    "sasrec": Peer(fit_transformer("SASRecModel", {"dropout_rate": 0.5}, {"dropout_rate": 0.2}), TRANSFORMERS),
    "bert4rec": Peer(
        fit_transformer("BERT4RecModel", {"mask_prob": 0.6}, {"mask_prob": 0.2}, dropout_rate=0.2), TRANSFORMERS
    ),
    "hstu": Peer(fit_transformer("HSTUModel", {"dropout_rate": 0.5}, {"dropout_rate": 0.2}, **COSINE), TRANSFORMERS),
    "hstu_no_time": Peer(
        fit_transformer(
            "HSTUModel", {"dropout_rate": 0.5}, {"dropout_rate": 0.2}, relative_time_attention=False, **COSINE
        ),
        TRANSFORMERS,
    ),
}


def load_split(name: str) -> tuple[str, Split]:
    """A data set by folder or name, cut by its column `split` where it has one, else by leave-one-out."""
    folder = Path(name).resolve() if Path(name).is_dir() else Path(name)
    config: RunConfig = parse_run_config({"name": folder.name, "data": {"path": str(folder)}}, source="the benchmark")
    dataset = resolve_data(config.data, Path.cwd())
    method = "by_column" if records.SPLIT in dataset.interactions.column_names else "leave_one_out"
    return folder.name, split_dataset(dataset, config.data.model_copy(update={"split": method}))


def measure(name: str, peer: Peer, task: Task) -> Row:
    """Fit and ask; a missing library or one that fails gives a row with the reason in place of figures."""
    row: Row = {"peer": name, "seed": task.seed, "commit": commit(), "minutes": task.minutes, "threads": task.threads}
    began = time.process_time()
    try:
        recommender = peer.fit(task)
    except ImportError as error:
        return row | {"error": f"{error}; install what the head of {Path(__file__).name} names"}
    row |= {"model": recommender.name, "seconds": round(time.process_time() - began, 1)}
    row["versions"] = {one: importlib.metadata.version(one) for one in peer.packages}
    return row | ask(recommender, task.split)


def measure_bundle(folder: Path, split: Split, data: str, task: Task) -> Row | None:
    """Our own recommender from disk, or None where it was trained on other data."""
    trained = load_recommender(Bundle.open(folder))
    if trained.config.name != data:
        return None
    if list(trained.item_ids) != list(split.items):
        raise ConfigError(f"{folder} was trained on another catalogue than {data}; train it again, or leave it out")
    seconds = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["seconds"]
    row = {"peer": f"asterism {folder.name}", "model": "UGT", "seed": trained.config.seed, "commit": commit()}
    row |= {"minutes": trained.config.training.max_minutes, "threads": task.threads, "seconds": round(seconds, 1)}
    return row | ask(GeneratedRecommender(folder.name, trained.generator, "rescored"), split)


def ask(recommender: Recommender, split: Split) -> dict[str, dict[str, float]]:
    """Recall and NDCG at 10 by part and mode."""
    return {part: scores(recommender, split.cases(name), len(split.items), out) for part, (name, out) in PARTS.items()}  # type: ignore[arg-type]


def scores(recommender: Recommender, cases: Cases, items: int, exclude_history: bool) -> dict[str, float]:
    """Both metrics over one part's cases."""
    lists, _ = collect_lists(recommender, cases, items, CUTOFF, exclude_history)
    found = mean_metrics(target_ranks(lists, cases.targets), (CUTOFF,))
    return {"recall": round(found[f"recall@{CUTOFF}"], 4), "ndcg": round(found[f"ndcg@{CUTOFF}"], 4)}


def commit() -> str:
    """The commit of the code that runs, marked where the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def print_table(rows: list[Row]) -> None:
    """Markdown: Recall@10/NDCG@10 by part and mode, or the reason why there are none."""
    print("| data | peer | model | " + " | ".join(part.replace("_", ", ") for part in PARTS) + " | seconds |")
    print("|---" * (len(PARTS) + 4) + "|")
    for row in sorted(rows, key=lambda one: (one["data"], one.get("test_excluded", {}).get("ndcg", 0.0))):
        if "error" in row:
            print(f"| {row['data']} | {row['peer']} | {row['error']} |" + " |" * (len(PARTS) + 1))
            continue
        cells = (f"{row[part]['recall']:.4f}/{row[part]['ndcg']:.4f}" for part in PARTS)
        print(f"| {row['data']} | {row['peer']} | {row['model']} | " + " | ".join(cells) + f" | {row['seconds']} |")


def read_rows(file: Path | None) -> list[Row]:
    """Rows of earlier runs that have figures; those without are tried again."""
    if file is None or not file.is_file():
        return []
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "error" not in row]


def main() -> None:
    """Parse the arguments; measure what is not in the file of rows yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[name for name in PUBLIC_DATA if (data_home() / name).is_dir()])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--bundle", nargs="*", type=Path, default=[])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|rectools|implicit|threadpoolctl).*")
    rows = read_rows(arguments.rows)
    done = {(row["data"], row["peer"], row["seed"]) for row in rows}

    def keep(data: str, row: Row | None) -> None:
        if row is None:
            return
        rows.append({"data": data} | row)
        if arguments.rows:
            with arguments.rows.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")

    for name in arguments.data:
        data, split = load_split(name)
        task = Task(split, arguments.minutes, arguments.seed, arguments.threads)
        for peer in arguments.peers:
            if (data, peer, arguments.seed) not in done:
                print(f"{data}: {peer}", file=sys.stderr)
                keep(data, measure(peer, PEERS[peer], task))
        for folder in arguments.bundle:
            keep(data, measure_bundle(folder, split, data, task))
    print_table(rows)
    print(json.dumps({"benchmark": "peers", "cutoff": CUTOFF, "threads": arguments.threads, "rows": rows}))


if __name__ == "__main__":
    try:
        main()
    except AsterismError as error:
        sys.exit(str(error))
