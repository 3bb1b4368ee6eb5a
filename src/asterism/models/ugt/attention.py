"""Pointwise aggregated attention with relative position and time bias."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.ugt.buckets import TIME_BUCKETS
from asterism.models.ugt.dropout import Dropout
from asterism.models.ugt.group_norm import normalise, token_norm
from asterism.models.ugt.jagged import DenseView, joined

#: Set to 1, attention on CUDA is a Triton kernel. Not the default: so far only the interpreter has run it.
KERNEL_VARIABLE: Final = "ASTERISM_TRITON"


class RelativeBias(nn.Module):
    """A learned score for how far apart two events are, in positions and in time, one per head.

    A token of the prefix has no position among the events: as a key it has a score of its own.
    """

    def __init__(self, heads: int, max_events: int, prefix: int = 0) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(heads, max_events))
        self.time = nn.Parameter(torch.zeros(heads, TIME_BUCKETS))
        self.prefix = nn.Parameter(torch.zeros(heads, prefix)) if prefix else None

    def forward(self, order: Tensor, gaps: Tensor) -> Tensor:
        """Bias (b, H, l, l) of query (third axis) on key (fourth axis).

        `order` (l,) long, where the tokens of a row stand in it; `gaps` (b, l, l) long, their buckets of time.
        """
        place = (order[:, None] - order[None, :]).clamp(min=0)
        position: Tensor = self.position
        if self.prefix is not None:
            prefix, events = self.prefix.shape[1], position.shape[1]
            place = torch.where(order < prefix, events + order, place.clamp(max=events - 1))
            position = torch.cat([position, self.prefix], dim=1)
        return position[:, place][None] + self.time[:, gaps].transpose(0, 1)


def pointwise_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, visible: Tensor, scale: float) -> Tensor:
    """SiLU(q kᵀ + bias) · visible / scale · v, without a softmax.

    `q`, `k`, `v` (B, H, L, D/H); `bias` (B, H, L, L); `visible` (B, 1, L, L), one or zero → (B, H, L, D/H).
    """
    weights = functional.silu(q @ k.transpose(-1, -2) + bias) * (visible / scale)
    return weights @ v


def kernel_for(queries: Tensor) -> bool:
    """Whether attention runs as a Triton kernel: on CUDA, where ASTERISM_TRITON is 1 and Triton is there."""
    return queries.is_cuda and os.environ.get(KERNEL_VARIABLE) == "1" and importlib.util.find_spec("triton") is not None


class PointwiseAttentionBlock(nn.Module):
    """One HSTU layer: Y = f(Norm(A V) * U), A = SiLU(Q Kᵀ + bias) / T, without a softmax.

    Zhai et al., "Actions Speak Louder than Words" (2024), equations 2-4. Left out: the
    stochastic length of the paper.
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
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, views: Sequence[DenseView], groups: Tensor) -> Tensor:
        """(N, D) states of flat tokens, the dense views of their rows, (N,) groups → (N, D)."""
        expanded: Tensor = functional.silu(self.expand(normalise(self.norm, states, groups)))
        gate, rest = expanded.tensor_split([states.shape[-1]], dim=-1)
        attended = joined([view.flat(self._attend(view.dense(rest), view)) for view in views], views)
        gated = self.norm_attended(attended) * gate
        update: Tensor = self.dropout(self.contract(gated))
        return states + update

    def _attend(self, dense: Tensor, view: DenseView) -> Tensor:
        """(b, l, 3 D) values, queries and keys → (b, l, D)."""
        rows, tokens, _ = dense.shape
        value, query, key = dense.view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if kernel_for(query) and view.tokens is None:
            attended = self._in_one_kernel(query, key, value, view)
        else:
            bias = self.bias(view.columns, view.gaps)
            attended = pointwise_attention(query, key, value, bias, view.visible, self.max_tokens)
        return attended.transpose(1, 2).flatten(2)

    def _in_one_kernel(self, query: Tensor, key: Tensor, value: Tensor, view: DenseView) -> Tensor:
        kernel = importlib.import_module("asterism.models.ugt.triton_attention")  # needs Triton, which has CUDA alone
        tables = kernel.BiasTables(self.bias.position, self.bias.time, self.bias.prefix)
        attended: Tensor = kernel.fused_attention(
            query, key, value, tables, view.timestamps, view.present, self.max_tokens
        )
        return attended
