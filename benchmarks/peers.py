"""Other libraries' recommenders beside this one: the same split, the same metrics code, one table.

    python -m venv peers && peers/bin/pip install torch==2.13.0
    peers/bin/pip install 'rectools[torch]' implicit 'pyarrow<22' safetensors rich    # RecTools brings NumPy 1
    PYTHONPATH=src peers/bin/python benchmarks/peers.py [--data amazon-office-2014 …] [--peers sasrec als …]
                                                        [--bundle DIR …] [--minutes 3] [--seed 0] [--rows FILE]

Every peer learns from the training part alone and is asked for 10 items of the whole catalogue on all validation and
test cases, the history excluded and included. RecTools' SASRec, BERT4Rec and HSTU train with our own rule: NDCG@10 on
validation after each round (an epoch, or the epochs that make 100 steps), the best round's weights kept, an end after
10 rounds without a better one or after `--minutes`; a row says which. `--bundle` adds recommenders that `asterism
train` made of the same data. A peer whose library is absent has a row that says so. Minutes and seconds are CPU time of
fitting, validation included, which a busy machine does not stretch, with the allocator set as `asterism train` sets it;
a bundle's are the wall time that its training noted. With --rows, finished rows are kept in a file and not made again.
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

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from asterism.config import RunConfig, parse_run_config
from asterism.core import records
from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, ConfigError
from asterism.data.locating import data_home, resolve_data
from asterism.data.sequences import Cases, Sequences
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding.loading import load_recommender
from asterism.evaluation.baselines import item_knn, markov, popularity
from asterism.evaluation.generated import GeneratedRecommender
from asterism.evaluation.metrics import mean_metrics, ndcg, target_ranks
from asterism.evaluation.protocol import collect_lists
from asterism.evaluation.ranking import PADDING, in_history
from asterism.evaluation.recommender import Recommender
from asterism.training.memory import keep_freed_memory

PUBLIC_DATA = (
    "minionerec-industrial",
    "movielens-latest-small",
    "amazon-office-2014",
    "amazon-beauty-2014",
    "amazon-toys-2014",
)
CUTOFF = 10
PATIENCE = 10  # rounds
MAX_ROUNDS = 200
ROUND_STEPS = 100  # at least: SASRec, which has no content to start from, lies flat for its first few hundred
WIDTH = 64
MAX_EVENTS = 50
BATCH_USERS = 64  # ours; the library's 128 makes half the steps of the same minutes
PARTS = {
    f"{name}_{mode}": (name, mode == "excluded") for name in ("validation", "test") for mode in ("excluded", "included")
}

Row = dict[str, Any]
Lists = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """What a peer gets: the split, and how long and from which seed it may learn."""

    split: Split
    minutes: float
    seed: int
    threads: int

    @property
    def dense(self) -> bool:
        """Whether an average history fills the window, as MovieLens' do and those of shops do not."""
        return self.split.train.events >= MAX_EVENTS * len(self.split.train)


@dataclass(frozen=True, slots=True)
class Peer:
    """How to fit one recommender, and the packages whose versions its row names."""

    fit: Callable[[Task], Recommender]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MatrixPeer:
    """A model of `implicit`; users are rows of a user-item matrix, so repeats and order are lost to it."""

    name: str
    model: Any
    items: int
    fold_in: Callable[[Any, sparse.csr_matrix], Any] | None = None  # where the model knows only training users

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> Lists:
        """See `Recommender.recommend`."""
        liked = user_items(histories, self.items)
        users = np.arange(len(histories))
        model, recalculate = self.model, True
        if self.fold_in is not None:
            model, recalculate = self.fold_in(self.model, liked), False
        found, scores = model.recommend(
            users, liked, N=k, filter_already_liked_items=exclude_history, recalculate_user=recalculate
        )
        missing = scores < -1e30
        if exclude_history:  # short of candidates, the library fills up with the history at score 0
            missing |= in_history(found, histories, self.items)
        return padded(np.where(missing, PADDING, found), k)


@dataclass(slots=True)
class SequencePeer:
    """A transformer of RecTools; asked about rows of histories as if they were users."""

    name: str
    model: Any
    items: int

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> Lists:
        """See `Recommender.recommend`; a row in which the model knows no item stays empty."""
        from rectools.dataset import Dataset
        from rectools.dataset.context import get_context

        out = np.full((len(histories), k), PADDING, dtype=np.int64)
        known = self.model.data_preparator.get_known_item_ids()
        askable = np.unique(np.repeat(np.arange(len(histories)), histories.lengths)[np.isin(histories.items, known)])
        if len(askable) == 0:
            return out
        asked = frame(histories)
        context = None
        if self.model.require_recommend_context:  # the moment of asking, for which the newest event's stands in
            context = get_context(asked.groupby("user_id", as_index=False).last())
        found = self.model.recommend(
            askable, Dataset.construct(asked), k, exclude_history, on_unsupported_targets="ignore", context=context
        )
        out[found["user_id"].to_numpy(), found["rank"].to_numpy() - 1] = found["item_id"].to_numpy()
        return out


def padded(lists: NDArray[np.integer], k: int) -> Lists:
    """(rows, k) with what is missing as padding at the end."""
    order = np.argsort(lists == PADDING, axis=1, kind="stable")
    out = np.full((len(lists), k), PADDING, dtype=np.int64)
    out[:, : lists.shape[1]] = np.take_along_axis(lists, order, axis=1)
    return out


def user_items(histories: Sequences, items: int) -> sparse.csr_matrix:
    """(rows, items) one where the item is in the history."""
    shape = (len(histories), items)
    ones = np.ones(histories.events, dtype=np.float32)
    parts = (ones, histories.items, histories.offsets.astype(np.int32))
    matrix = sparse.csr_matrix(parts, shape=shape, copy=True)  # what follows sorts in place
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def frame(sequences: Sequences) -> Any:
    """RecTools' table of interactions, a user a row of the sequences."""
    import pandas as pd

    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    moments = pd.to_datetime(sequences.timestamps, unit="s")
    columns = {"user_id": users, "item_id": sequences.items.astype(np.int64), "weight": 1.0, "datetime": moments}
    return pd.DataFrame(columns)


def fit_neighbours(kind: str) -> Callable[[Task], Recommender]:
    """`implicit`'s item neighbours by `CosineRecommender` or `BM25Recommender`."""

    def fit(task: Task) -> Recommender:
        from implicit import nearest_neighbours

        model = getattr(nearest_neighbours, kind)(K=100, num_threads=task.threads)
        model.fit(user_items(task.split.train, len(task.split.items)), show_progress=False)
        return MatrixPeer(kind, model, len(task.split.items))

    return fit


def fit_als(task: Task) -> Recommender:
    """Implicit alternating least squares (Hu et al. 2008); a history's factors are solved for when it is asked."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=WIDTH, random_state=task.seed, num_threads=task.threads)
    model.fit(user_items(task.split.train, len(task.split.items)), show_progress=False)
    return MatrixPeer("als", model, len(task.split.items))


def fit_bpr(task: Task) -> Recommender:
    """Bayesian personalised ranking (Rendle et al. 2009); the library's 100 iterations at 0.01 end far too early."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    learning = {"learning_rate": 0.05, "iterations": 300, "random_state": task.seed, "num_threads": task.threads}
    model = BayesianPersonalizedRanking(factors=WIDTH, **learning)
    model.fit(user_items(task.split.train, len(task.split.items)), show_progress=False)
    return MatrixPeer("bpr", model, len(task.split.items), fold_in=mean_of_items)


def mean_of_items(model: Any, liked: sparse.csr_matrix) -> Any:
    """The library's BPR knows training users only: a history is the mean of its items, as long as a user is."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    users = np.asarray(liked @ model.item_factors, dtype=np.float32)
    users[:, -1] = 0.0  # the column that carries the items' biases
    usual = np.linalg.norm(model.user_factors[:, :-1], axis=1).mean()
    users *= usual / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-12)
    users[:, -1] = 1.0
    folded = BayesianPersonalizedRanking(factors=WIDTH, num_threads=model.num_threads)
    folded.item_factors, folded.user_factors = model.item_factors, users
    return folded


def fit_transformer(
    kind: str, sparse: dict[str, Any], dense: dict[str, Any], **settings: Any
) -> Callable[[Task], Recommender]:
    """One of RecTools' transformers with full softmax, stopped by our rule; settings that hang on the data apart."""

    def fit(task: Task) -> Recommender:
        from pytorch_lightning import seed_everything
        from rectools import models
        from rectools.dataset import Dataset

        seed_everything(task.seed)
        longest = min(MAX_EVENTS, int(task.split.train.lengths.max()))  # places beyond are never trained
        size = {"n_blocks": 2, "n_heads": 2, "n_factors": WIDTH, "session_max_len": longest}
        learning = {"loss": "softmax", "lr": 1e-3, "batch_size": BATCH_USERS}
        by_data = dense if task.dense else sparse
        model = getattr(models, kind)(**size, **learning, **by_data, **settings, recommend_torch_device="cpu")
        peer = SequencePeer(kind, model, len(task.split.items))
        stop_early(peer, Dataset.construct(frame(task.split.train)), task)
        return peer

    return fit


def stop_early(peer: SequencePeer, train: Any, task: Task) -> None:
    """Train a round at a time; leave the weights of the best one by NDCG@10 on validation, history excluded."""
    best, best_round, weights = -1.0, 0, {}
    epochs = epochs_a_round(int((task.split.train.lengths >= 2).sum()))
    began = time.process_time()
    for done in range(1, MAX_ROUNDS + 1):
        peer.model.fit_partial(train, min_epochs=epochs, max_epochs=epochs)
        cases = task.split.validation
        lists, _ = collect_lists(peer, cases, peer.items, CUTOFF, exclude_history=True)
        found = float(ndcg(target_ranks(lists, cases.targets), CUTOFF).mean())
        if found > best:
            state = peer.model.lightning_model.state_dict()
            best, best_round, weights = found, done, {name: one.clone() for name, one in state.items()}
        spent = time.process_time() - began
        said = f"epoch {done * epochs}: validation NDCG@{CUTOFF} {found:.4f}, {spent:.0f} CPU s"
        print(f"  {peer.name} {said}", file=sys.stderr)
        if done - best_round >= PATIENCE or spent > task.minutes * 60:
            break
    peer.model.lightning_model.load_state_dict(weights)
    peer.name = f"{peer.name}, {ending(best_round, done, epochs)}"


def epochs_a_round(users: int) -> int:
    """Epochs between two validations: one, or as many as make `ROUND_STEPS` steps."""
    return -(-ROUND_STEPS // -(-users // BATCH_USERS))


def ending(best_round: int, rounds: int, epochs: int) -> str:
    """Which epoch was kept and why training ended, in words."""
    kept = f"epoch {best_round * epochs} of {rounds * epochs}"
    if rounds - best_round >= PATIENCE:
        return f"{kept}, stopped early"
    why = "all epochs done" if rounds == MAX_ROUNDS else "cut by the minutes"
    return f"{kept}, {why}, still rising" if rounds == best_round else f"{kept}, {why}"


TRANSFORMERS = ("rectools", "pytorch-lightning", "torch")
COSINE = {"lightning_module_kwargs": {"logits_t": 0.05}}  # HSTU scores by cosine, which needs its temperature
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
