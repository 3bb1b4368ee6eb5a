"""The cascade's second step: generated items ordered by the fused score, whole catalogues by the item head."""

from __future__ import annotations

import torch
from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.errors import ConfigError, ModelError
from asterism.decoding.beam import Generated
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.selection import Scores, select_top
from asterism.decoding.trie import Trie
from asterism.decoding.trie_level import Indices
from asterism.models.policy import HistoryBatch, Policy


def check_weights(config: DecodingConfig) -> None:
    """Raise `ConfigError` if all weights are zero, which would leave nothing to order items by."""
    if not any((config.item_weight, config.code_weight, config.content_weight, config.neighbour_weight)):
        raise ConfigError(
            "decoding.item_weight, code_weight, content_weight and neighbour_weight are all 0; give one of them weight"
        )


def fuse(item_scores: Tensor, code_log_probs: Tensor, of_history: Tensor | None, config: DecodingConfig) -> Tensor:
    """`item_weight * item score + code_weight * code log-probability + what the history's heads add`, elementwise."""
    fused = config.item_weight * item_scores + config.code_weight * code_log_probs
    return fused if of_history is None else fused + of_history


def rescore(
    policy: Policy,
    state: Tensor,
    histories: HistoryBatch,
    generated: Generated,
    count: int,
    config: DecodingConfig,
    heads: HistoryHeads = NO_HEADS,
) -> tuple[Generated, Scores]:
    """The `count` best of the generated items (B, W) by fused score, with these scores (B, min(count, W)).

    `state` is what the policy makes of `histories`, which are on the CPU. Of equal scores the lower item index stands
    first; -1 and -inf where a row has no more items, an item whose score is -inf counted as none.
    """
    real = generated.items >= 0
    items = generated.items.clamp(min=0)
    head = policy.item_scores(state, items.to(state.device)).float().cpu()
    if head.shape != items.shape:
        raise ModelError(f"the item head answered shape {tuple(head.shape)} for candidates {tuple(items.shape)}")
    of_history = heads.weighted(histories, items, config)
    fused = fuse(head, generated.code_log_probs, of_history, config).masked_fill(~real, -torch.inf)

    def by_item(rows: Indices, positions: Indices) -> Indices:
        return generated.items.numpy()[rows, positions]

    scores, positions = select_top(fused, count, by_item)
    order = torch.from_numpy(positions)
    gone = torch.from_numpy(scores) == -torch.inf
    items = generated.items.gather(1, order).masked_fill(gone, -1)
    return Generated(items, generated.code_log_probs.gather(1, order).masked_fill(gone, -torch.inf)), scores


def rank(policy: Policy, state: Tensor, trie: Trie, count: int, exclusions: Exclusions) -> tuple[Indices, Scores]:
    """The `count` best of all items in the trie by the item head alone: items and scores (B, count).

    Of equal scores the lower item index stands first; -1 and -inf where a row has no more items.
    Raises `ModelError` if the trie holds an item that the policy cannot score.
    """
    trie.require_items()
    head = policy.item_scores(state).float().cpu()
    known = head.shape[1]
    if known < trie.known_items and trie.present[known:].any():
        raise ModelError(
            f"the policy scores {known} items, the trie holds item index {trie.known_items - 1}; "
            "load a policy that knows the new items, or remove them"
        )
    legal = torch.zeros(known, dtype=torch.bool)
    legal[: trie.known_items] = torch.from_numpy(trie.present[:known].copy())
    scores = head.masked_fill(~legal, -torch.inf)
    scores[torch.from_numpy(exclusions.rows), torch.from_numpy(exclusions.items)] = -torch.inf
    return _padded_ranking(scores, count)


def _padded_ranking(scores: Tensor, count: int) -> tuple[Indices, Scores]:
    values, items = select_top(scores, count, lambda rows, positions: positions)
    items[values == -torch.inf] = -1
    return items, values
