"""The cascade after generation: a cut by the item head, then all heads; or whole catalogues by the item head alone."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.errors import ConfigError, ModelError
from asterism.core.native import Function, function
from asterism.decoding.beam import Generated
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import Scores, by_position, no_number, select_top
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import HistoryBatch, Policy

_SOURCE: Final = Path(__file__).with_name("rescoring.cpp")


@cache
def _native() -> Function | None:
    return function(_SOURCE, "best_items", (c_int64, c_int64, c_int64, *[c_void_p] * 6), c_int64)


def check_weights(config: DecodingConfig) -> None:
    """Raise `ConfigError` if all weights are zero, which would leave nothing to order items by."""
    if not any((config.item_weight, config.code_weight, config.content_weight, config.neighbour_weight)):
        raise ConfigError(
            "decoding.item_weight, code_weight, content_weight and neighbour_weight are all 0; give one of them weight"
        )


def fuse(
    item_scores: Tensor, code_log_probs: Tensor | None, of_history: Tensor | None, config: DecodingConfig
) -> Tensor:
    """`item_weight * item score + code_weight * code log-probability + what the history's heads add`, elementwise.

    `code_log_probs` may be None where `code_weight` is 0, `of_history` where no head of the history has weight.
    """
    fused = item_scores if config.item_weight == 1 else config.item_weight * item_scores
    if code_log_probs is not None:
        fused = fused + config.code_weight * code_log_probs
    return fused if of_history is None else fused + of_history


def rescore(
    policy: Policy,
    state: Tensor,
    histories: HistoryBatch,
    generated: Generated,
    counts: Indices,
    config: DecodingConfig,
    heads: HistoryHeads = NO_HEADS,
) -> tuple[Generated, Scores]:
    """The best counts[r] of the generated items (B, W) by fused score, with these scores (B, min(largest count, W)).

    Where `config.kept` is above 0 only so many of a row's items, or its count if that is more, get a fused score: the
    best by the item head. `state` is what the policy makes of `histories`, which are on the CPU. Of equal scores the
    lower item index stands first; -1 and -inf where a row has no more items, an item whose score is -inf counted as
    none.
    """
    items = generated.items.clamp(min=0)
    if config.item_weight == 0 and config.kept == 0:
        head = torch.zeros(items.shape)
    else:
        head = policy.item_scores(state, items.to(state.device)).float().cpu()
    if head.shape != items.shape:
        raise ModelError(f"the item head answered shape {tuple(head.shape)} for candidates {tuple(items.shape)}")
    if 0 < config.kept < items.shape[1]:
        generated, head = _best(generated, head, np.maximum(config.kept, counts))
        items = generated.items.clamp(min=0)
    of_history = heads.weighted(histories, items, config)
    generated, fused = _best(generated, fuse(head, generated.code_log_probs, of_history, config), counts)
    return generated, fused.numpy()


def _best(generated: Generated, scores: Tensor, counts: Indices) -> tuple[Generated, Tensor]:
    """The best counts[r] of the generated items by scores (B, W), in their order, with their scores."""

    found = _native()
    log_probs = generated.code_log_probs
    if found is not None:
        items, kept, order = _best_compiled(found, generated.items, scores, counts)
    else:
        items, kept, order = _best_of(generated.items, scores, counts)
    if log_probs is not None:
        log_probs = log_probs.gather(1, order).masked_fill(items < 0, -torch.inf)
    return Generated(items, log_probs), kept


def _best_of(items: Tensor, scores: Tensor, counts: Indices) -> tuple[Tensor, Tensor, Tensor]:
    """Items, scores and where they stood, all (B, min(largest count, W))."""

    def by_item(rows: Indices, positions: Indices) -> Indices:
        return items.numpy()[rows, positions]

    values, positions = select_top(scores.masked_fill(items < 0, -torch.inf), int(counts.max()), by_item)
    _cut(values, counts)
    order, kept = torch.from_numpy(positions), torch.from_numpy(values)
    return items.gather(1, order).masked_fill(kept == -torch.inf, -1), kept, order


def _best_compiled(find: Function, items: Tensor, scores: Tensor, counts: Indices) -> tuple[Tensor, Tensor, Tensor]:
    """The same by compiled code."""
    rows, width = items.shape
    columns = min(int(counts.max()), width)
    items, scores, sizes = items.contiguous(), scores.contiguous(), torch.from_numpy(counts).contiguous()
    assert scores.shape == items.shape
    assert scores.dtype == torch.float32
    found, order = torch.empty((2, rows, columns), dtype=torch.long)
    kept = torch.empty(rows, columns)
    wrong = find(rows, width, columns, *(one.data_ptr() for one in (items, scores, sizes, found, kept, order)))
    if wrong:
        raise no_number(wrong - 1)
    return found, kept, order


def rank(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    counts: Indices,
    exclusions: Exclusions,
    filters: Sequence[ItemFilter | None] = (),
) -> tuple[Indices, Scores]:
    """The best counts[r] of all items in the trie by the item head alone: items and scores (B, largest count).

    Of equal scores the lower item index stands first; -1 and -inf where a row has no more items.
    Raises `ModelError` if the trie holds an item that the policy cannot score.
    """
    view.require_items()
    head = policy.item_scores(state).float().cpu()
    known, present = head.shape[1], view.present
    if known < view.known_items and present[known:].any():
        raise ModelError(
            f"the policy scores {known} items, the trie holds item index {view.known_items - 1}; "
            "load a policy that knows the new items, or remove them"
        )
    legal = torch.zeros(known, dtype=torch.bool)
    legal[: view.known_items] = torch.from_numpy(present[:known])
    scores = head.masked_fill(~legal, -torch.inf)
    scores[torch.from_numpy(exclusions.rows), torch.from_numpy(exclusions.items)] = -torch.inf
    for row, one in enumerate(filters):
        if one is not None:
            scores[row, torch.from_numpy(~one.allows(np.arange(known)))] = -torch.inf
    return _padded_ranking(scores, counts)


def _padded_ranking(scores: Tensor, counts: Indices) -> tuple[Indices, Scores]:
    values, items = select_top(scores, int(counts.max()), by_position)
    _cut(values, counts)
    items[values == -torch.inf] = -1
    return items, values


def _cut(values: Scores, counts: Indices) -> None:
    """Leave each row (B, k), best first, no more than its own count, and -inf in the rest."""
    if int(counts.min()) < values.shape[1]:
        values[np.arange(values.shape[1]) >= counts[:, None]] = -np.inf
