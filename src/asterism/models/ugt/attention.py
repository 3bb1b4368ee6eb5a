"""Pointwise aggregated attention with relative position and time bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TIME_BUCKETS = 32


class RelativeBias(nn.Module):
    """A learned score for how far apart two events are, in positions and in time, one per head.

    Time gaps fall into logarithmic buckets, bucket b holding gaps of [2**b, 2**(b + 1)) seconds.
    """

    def __init__(self, heads: int, max_events: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(heads, max_events))
        self.time = nn.Parameter(torch.zeros(heads, TIME_BUCKETS))

    def forward(self, timestamps: Tensor) -> Tensor:
        """(B, T) Unix seconds → (B, H, T, T) bias of query (third axis) on key (fourth axis)."""
        events = timestamps.shape[1]
        order = torch.arange(events, device=timestamps.device)
        distance = (order[:, None] - order[None, :]).clamp(min=0)
        return self.position[:, distance][None] + self.time[:, time_bucket(timestamps)].transpose(0, 1)


def time_bucket(timestamps: Tensor) -> Tensor:
    """(B, T) Unix seconds → (B, T, T) bucket of the gap between each query and each key."""
    gap = (timestamps[:, :, None] - timestamps[:, None, :]).clamp(min=0)
    return torch.log2(gap.float() + 1.0).long().clamp(max=TIME_BUCKETS - 1)


class PointwiseAttentionBlock(nn.Module):
    """One HSTU layer: Y = f(Norm(A V) * U), A = SiLU(Q Kᵀ + bias) / T, without a softmax.

    Zhai et al., "Actions Speak Louder than Words" (2024), equations 2-4. Left out: the fused
    kernel and the stochastic length of the paper.
    """

    def __init__(self, width: int, heads: int, max_events: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads; make it a multiple")
        self.heads = heads
        self.max_events = max_events
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.bias = RelativeBias(heads, max_events)
        self.norm_attended = nn.LayerNorm(width)
        self.contract = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, timestamps: Tensor, visible: Tensor) -> Tensor:
        """(B, T, D) states, (B, T) Unix seconds, (B, 1, T, T) what a query may see → (B, T, D)."""
        expanded: Tensor = functional.silu(self.expand(self.norm(states)))
        gate, value, query, key = expanded.chunk(4, dim=-1)
        scores = self._split(query) @ self._split(key).transpose(-1, -2)
        weights = functional.silu(scores + self.bias(timestamps)) * visible / self.max_events
        attended: Tensor = (weights @ self._split(value)).transpose(1, 2).flatten(2)
        update: Tensor = self.dropout(self.contract(self.norm_attended(attended) * gate))
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
