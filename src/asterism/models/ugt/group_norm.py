"""Group Layer Norm: what comes from different sources is normalised apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class GroupLayerNorm(nn.Module):
    """A layer norm with one scale and shift a group (MTGR, Han et al. 2025, "Group-Layer Normalization")."""

    def __init__(self, groups: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((groups, width), scale))
        self.shift = nn.Parameter(torch.zeros(groups, width))

    def forward(self, states: Tensor, groups: Tensor | int) -> Tensor:
        """(..., D) states, and the group of all of them or of each (...) long → (..., D)."""
        if isinstance(groups, int):
            return functional.layer_norm(states, states.shape[-1:], self.scale[groups], self.shift[groups])
        normed = functional.layer_norm(states, states.shape[-1:])
        return normed * functional.embedding(groups, self.scale) + functional.embedding(groups, self.shift)


def token_norm(groups: int, width: int) -> nn.LayerNorm | GroupLayerNorm:
    """The norm of tokens of so many groups; of one group it is an ordinary layer norm."""
    return GroupLayerNorm(groups, width) if groups > 1 else nn.LayerNorm(width)


def normalise(norm: nn.LayerNorm | GroupLayerNorm, states: Tensor, groups: Tensor) -> Tensor:
    """(N, D) states and their groups (N,) → (N, D)."""
    normed: Tensor = norm(states, groups) if isinstance(norm, GroupLayerNorm) else norm(states)
    return normed
