"""The transformers of RecTools: SASRec, BERT4Rec and HSTU."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from asterism.data.sequences import Sequences
from asterism.evaluation.metrics import ndcg, target_ranks
from asterism.evaluation.protocol import collect_lists
from asterism.evaluation.ranking import PADDING
from asterism.evaluation.recommender import Recommender
from peer_libraries.task import CUTOFF, MAX_EVENTS, WIDTH, Lists, Task

BATCH_USERS = 64  # ours; the library's 128 makes half the steps of the same minutes
PATIENCE = 10  # rounds
MAX_ROUNDS = 200
ROUND_STEPS = 100  # at least: SASRec, which has no content to start from, lies flat for its first few hundred
FULL_SOFTMAX_ITEMS = 10_000
NEGATIVES = 256  # a position
COSINE = {"lightning_module_kwargs": {"logits_t": 0.05}}  # HSTU scores by cosine, which needs its temperature


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


def frame(sequences: Sequences) -> Any:
    """RecTools' table of interactions, a user a row of the sequences."""
    import pandas as pd

    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    moments = pd.to_datetime(sequences.timestamps, unit="s")
    columns = {"user_id": users, "item_id": sequences.items.astype(np.int64), "weight": 1.0, "datetime": moments}
    return pd.DataFrame(columns)


def fit_transformer(
    kind: str, sparse: dict[str, Any], dense: dict[str, Any], **settings: Any
) -> Callable[[Task], Recommender]:
    """One of RecTools' transformers, stopped by our rule; settings that hang on how dense the data are apart."""

    def fit(task: Task) -> Recommender:
        from pytorch_lightning import seed_everything
        from rectools import models
        from rectools.dataset import Dataset

        seed_everything(task.seed)
        longest = min(MAX_EVENTS, int(task.split.train.lengths.max()))  # places beyond are never trained
        size = {"n_blocks": 2, "n_heads": 2, "n_factors": WIDTH, "session_max_len": longest}
        by_data = loss_over(len(task.split.items)) | (dense if task.dense else sparse)
        learning = {"lr": 1e-3, "batch_size": BATCH_USERS, "recommend_torch_device": "cpu"}
        model = getattr(models, kind)(**size, **learning, **by_data, **settings)
        peer = SequencePeer(f"{kind}, {by_data['loss']}", model, len(task.split.items))
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


def loss_over(items: int) -> dict[str, Any]:
    """The full softmax; over a large catalogue, where it takes thrice as long, the library's sampled one."""
    if items <= FULL_SOFTMAX_ITEMS:
        return {"loss": "softmax"}
    return {"loss": "sampled_softmax", "n_negatives": NEGATIVES}


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
