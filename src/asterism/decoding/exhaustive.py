"""The slow, obvious twin of the generator: score every item, then sort."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.recommendations import Mode, Recommendations, check_request
from asterism.decoding.rescoring import fuse
from asterism.models.paths import item_log_probs
from asterism.models.policy import Policy, read_histories


@torch.inference_mode()
def recommend_exhaustively(
    policy: Policy,
    table: SemanticIdTable,
    histories: Sequences,
    k: int,
    config: DecodingConfig,
    *,
    excluded: Sequence[Collection[int]],
    mode: Mode = "rescored",
    heads: HistoryHeads = NO_HEADS,
) -> Recommendations:
    """What `Generator.recommend` answers when its beam covers the catalogue, computed item by item.

    `excluded[r]` holds all items that row r must not be given, those of its history included.
    """
    check_request(k, mode)
    items = np.full((len(histories), k), -1, dtype=np.int64)
    scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
    code_log_probs = scores.copy()
    for row in range(len(histories)):
        one = read_histories(policy, histories.take(np.array([row])))
        state = policy.encode(one)
        of_codes = all_log_probs(policy, state, table)[0].numpy()
        of_history = None
        if mode == "rescored":
            of_history = heads.weighted(one, torch.arange(len(of_codes))[None], config)
        of_items = _scores(policy, state, of_codes, of_history, config, mode)
        reached = of_items if mode == "rank" else np.minimum(of_items, of_codes)
        if mode == "rescored" and config.kept:
            head = policy.item_scores(state)[0].numpy()
            dropped = np.ones(len(head), dtype=np.bool_)
            dropped[_best(head, np.minimum(head, of_codes), excluded[row], max(config.kept, k))] = False
            reached = np.where(dropped, -np.inf, reached)
        best = _best(of_items, reached, excluded[row], k)
        items[row, : len(best)] = best
        scores[row, : len(best)] = of_items[best]
        code_log_probs[row, : len(best)] = of_codes[best]
    return Recommendations(items, scores, None if mode == "rank" else code_log_probs)


def all_log_probs(policy: Policy, state: Tensor, table: SemanticIdTable) -> Tensor:
    """(B, N) the log-probability of every item of the table."""
    return item_log_probs(policy, state, torch.from_numpy(table.codes).long().expand(state.shape[0], -1, -1))


def _scores(
    policy: Policy,
    state: Tensor,
    code_log_probs: NDArray[np.float32],
    of_history: Tensor | None,
    config: DecodingConfig,
    mode: Mode,
) -> NDArray[np.float32]:
    if mode == "generate":
        return code_log_probs
    head = policy.item_scores(state)[0]
    if mode == "rank":
        return head.numpy()
    added = None if of_history is None else of_history[0]
    return fuse(head, torch.from_numpy(code_log_probs), added, config).numpy()


def _best(
    scores: NDArray[np.float32], reached: NDArray[np.float32], excluded: Collection[int], k: int
) -> NDArray[np.int64]:
    """The k best items by score, then index, among those that can be reached and are not excluded."""
    left = [item for item in range(len(scores)) if item not in excluded and reached[item] > -np.inf]
    return np.array(sorted(left, key=lambda item: (-scores[item], item))[:k], dtype=np.int64)
