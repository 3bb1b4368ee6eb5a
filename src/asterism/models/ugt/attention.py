"""Pointwise aggregated attention with relative position and time bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.ugt.buckets import TIME_BUCKETS, gap_bucket
from asterism.models.ugt.group_norm import normalise, token_norm


class RelativeBias(nn.Module):
    """A learned score for how far apart two events are, in positions and in time, one per head.

    A token of the prefix has no position among the events: as a key it has a score of its own.
    """

    def __init__(self, heads: int, max_events: int, prefix: int = 0) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(heads, max_events))
        self.time = nn.Parameter(torch.zeros(heads, TIME_BUCKETS))
        self.prefix = nn.Parameter(torch.zeros(heads, prefix)) if prefix else None

    def forward(self, timestamps: Tensor) -> Tensor:
        """(B, L) Unix seconds → (B, H, L, L) bias of query (third axis) on key (fourth axis)."""
        tokens = timestamps.shape[1]
        order = torch.arange(tokens, device=timestamps.device)
        place = (order[:, None] - order[None, :]).clamp(min=0)
        position: Tensor = self.position
        if self.prefix is not None:
            prefix, events = self.prefix.shape[1], position.shape[1]
            place = torch.where(order < prefix, events + order, place.clamp(max=events - 1))
            position = torch.cat([position, self.prefix], dim=1)
        return position[:, place][None] + self.time[:, time_bucket(timestamps)].transpose(0, 1)


def time_bucket(timestamps: Tensor) -> Tensor:
    """(B, L) Unix seconds → (B, L, L) bucket of the gap between each query and each key."""
    return gap_bucket((timestamps[:, :, None] - timestamps[:, None, :]).clamp(min=0))


def pointwise_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, visible: Tensor, scale: float) -> Tensor:
    """SiLU(q kᵀ + bias) · visible / scale · v, without a softmax.

    `q`, `k`, `v` (B, H, L, D/H); `bias` (B, H, L, L); `visible` (B, 1, L, L), one or zero → (B, H, L, D/H).
    """
    weights = functional.silu(q @ k.transpose(-1, -2) + bias) * visible / scale
    return weights @ v


class PointwiseAttentionBlock(nn.Module):
    """One HSTU layer: Y = f(Norm(A V) * U), A = SiLU(Q Kᵀ + bias) / T, without a softmax.

    Zhai et al., "Actions Speak Louder than Words" (2024), equations 2-4. Left out: the fused
    kernel and the stochastic length of the paper.
    """

    def __init__(
        self, width: int, heads: int, max_events: int, dropout: float, prefix: int = 0, token_groups: int = 1
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads; make it a multiple")
        self.heads = heads
        self.max_events = max_events
        self.max_tokens = prefix + max_events
        self.norm = token_norm(token_groups, width)
        self.expand = nn.Linear(width, 4 * width)
        self.bias = RelativeBias(heads, max_events, prefix)
        self.norm_attended = nn.LayerNorm(width)
        self.contract = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, timestamps: Tensor, visible: Tensor, groups: Tensor) -> Tensor:
        """(B, L, D) states, (B, L) Unix seconds, (B, 1, L, L) what a query may see, (L,) groups → (B, L, D)."""
        expanded: Tensor = functional.silu(self.expand(normalise(self.norm, states, groups)))
        gate, *parts = expanded.chunk(4, dim=-1)
        value, query, key = (self._split(part) for part in parts)
        attended = pointwise_attention(query, key, value, self.bias(timestamps), visible, self.max_tokens)
        gated = self.norm_attended(attended.transpose(1, 2).flatten(2)) * gate
        update: Tensor = self.dropout(self.contract(gated))
        return states + update

    def _split(self, states: Tensor) -> Tensor:
        rows, events, width = states.shape
        heads: Tensor = states.view(rows, events, self.heads, width // self.heads)
        return heads.transpose(1, 2)


def causal_visibility(mask: Tensor) -> Tensor:
    """(B, T) where there is an event → (B, 1, T, T) one where a query may see a key, else zero."""
    events = mask.shape[1]
    causal = torch.ones(events, events, dtype=torch.bool, device=mask.device).tril()
    return (causal[None] & mask[:, None, :]).unsqueeze(1).float()
