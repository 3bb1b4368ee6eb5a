"""The slow twin of the flat path: every position of the padded batch, padding included, goes through every layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asterism.models.policy import HistoryBatch
from asterism.models.ugt import UGT
from asterism.models.ugt.attention import PointwiseAttentionBlock, pointwise_attention
from asterism.models.ugt.events import action_places, context_places
from asterism.models.ugt.experts import FeedForward
from asterism.models.ugt.group_norm import GroupLayerNorm
from asterism.models.ugt.items import row_means, starts_of
from asterism.models.ugt.jagged import causal_visibility, time_bucket
from asterism.models.ugt.pooling import RecencyPooling
from asterism.models.windows import OlderEvents


def padded_states(model: UGT, histories: HistoryBatch) -> Tensor:
    """(B, T, D) a state after each event; what stands at padded positions means nothing. Without dropout."""
    states, times, present, groups = padded_tokens(model, histories)
    for depth, block in enumerate(model.blocks):
        assert isinstance(block, PointwiseAttentionBlock)
        states = states + _attended(block, states, times, causal_visibility(present), groups)
        if model.feed_forwards:
            layer = model.feed_forwards[depth]
            assert isinstance(layer, FeedForward)
            states = states + _fed(layer, states, present, groups)
    normed: Tensor = model.norm(states[:, model.prefix.columns :])
    return normed if model.pooling is None else torch.cat([normed, _pooled(model, model.pooling, histories)], dim=-1)


def _pooled(model: UGT, pooling: RecencyPooling, histories: HistoryBatch) -> Tensor:
    """(B, T, D) event by event: the softmax of the scores of the ages of all that a row has up to there."""
    directions = functional.normalize(model.items(histories.items.clamp(min=0)), dim=-1)
    pooled = torch.zeros_like(directions)
    for row, column in histories.mask.nonzero().tolist():
        known = histories.mask[row, : column + 1].nonzero()[:, 0]
        shares = torch.softmax(pooling.scores[column - known], dim=0)
        pooled[row, column] = shares @ directions[row, known]
    return pooling.gain * pooled


def padded_tokens(model: UGT, histories: HistoryBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(B, L, D) tokens, (B, L) Unix seconds, (B, L) where there is a token, (L,) groups of columns."""
    tokens, times, present = [_events(model, histories)], [histories.timestamps], [histories.mask]
    groups = [torch.zeros(histories.items.shape[1], dtype=torch.long)]
    if model.prefix.windows is not None:
        older = histories.older
        if older is None:
            older = OlderEvents.none(len(histories), len(model.prefix.windows.window.weight), "cpu")
        tokens.insert(0, _windows(model, older))
        times.insert(0, older.timestamps)
        present.insert(0, older.counts > 0)
        groups.insert(0, torch.full((older.counts.shape[1],), model.prefix.groups - 1))
    if model.prefix.user is not None:
        never = torch.iinfo(torch.long).max
        known = torch.cat([time.masked_fill(~here, never) for time, here in zip(times, present, strict=True)], dim=1)
        tokens.insert(0, model.prefix.start(model.start, histories)[:, None])
        times.insert(0, known.amin(dim=1, keepdim=True))
        present.insert(0, torch.ones(len(histories), 1, dtype=torch.bool))
        groups.insert(0, torch.ones(1, dtype=torch.long))
    return torch.cat(tokens, 1), torch.cat(times, 1), torch.cat(present, 1), torch.cat(groups)


def _events(model: UGT, histories: HistoryBatch) -> Tensor:
    items = histories.items.clamp(min=0)
    total = model.items(items) if model.seen is None else model.items(items) + model.seen(items)
    parts = [total]
    for tables, places in ((model.events.action, action_places), (model.events.context, context_places)):
        if tables:
            where = places(histories)
            parts.append(torch.stack([table(where[name]) for name, table in tables.items()]).sum(dim=0))
    if model.events.norm is not None:
        parts = [model.events.norm(part, group) for group, part in enumerate(parts)]
    return torch.stack(parts).sum(dim=0)


def _windows(model: UGT, older: OlderEvents) -> Tensor:
    assert model.prefix.windows is not None
    sizes = older.counts.flatten()
    means = model.items.window_means(older.items, sizes)
    if model.seen is not None:
        means = means + row_means(older.items, model.seen.weight, starts_of(sizes))
    if model.prefix.windows.norm is not None:
        means = model.prefix.windows.norm(means, 0)
    return means.view(*older.counts.shape, -1) + model.prefix.windows.window.weight


def _normed(norm: torch.nn.Module, states: Tensor, groups: Tensor) -> Tensor:
    if not isinstance(norm, GroupLayerNorm):
        plain: Tensor = norm(states)
        return plain
    return functional.layer_norm(states, states.shape[-1:]) * norm.scale[groups] + norm.shift[groups]


def _attended(block: PointwiseAttentionBlock, states: Tensor, times: Tensor, visible: Tensor, groups: Tensor) -> Tensor:
    rows, tokens, width = states.shape
    expanded = functional.silu(block.expand(_normed(block.norm, states, groups)))
    gate, *parts = expanded.chunk(4, dim=-1)
    split = [part.view(rows, tokens, block.heads, width // block.heads).transpose(1, 2) for part in parts]
    bias = block.bias(torch.arange(tokens), time_bucket(times))
    value, query, key = split
    attended = pointwise_attention(query, key, value, bias, visible, block.max_tokens)
    update: Tensor = block.contract(block.norm_attended(attended.transpose(1, 2).flatten(2)) * gate)
    return update


def _fed(layer: FeedForward, states: Tensor, present: Tensor, groups: Tensor) -> Tensor:
    normed = _normed(layer.norm, states, groups)
    if layer.network is not None:
        update: Tensor = layer.network(normed)
        return update
    assert layer.mixture is not None
    update = torch.zeros_like(states)
    update[present] = layer.mixture(normed[present])
    return update
