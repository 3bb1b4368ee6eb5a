"""A user's state: the last hidden vector of the prompt and its keys and values, as one row of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: A length is written as two numbers below this, which bf16 holds exactly.
_DIGIT = 256


@dataclass(frozen=True, slots=True)
class StateShape:
    """What fixes the width of a state."""

    width: int  # of a hidden vector
    layers: int
    heads: int  # of keys and values
    head_width: int

    @property
    def per_token(self) -> int:
        """Numbers that a prompt's token adds to a state."""
        return self.layers * 2 * self.heads * self.head_width

    def pack(self, last: Tensor, caches: list[tuple[Tensor, Tensor]], lengths: Tensor) -> Tensor:
        """(B, S) states of last hidden vectors (B, D), a layer's keys and values (B, H, T, d) and lengths (B,)."""
        stacked = torch.stack([torch.stack(pair, dim=1) for pair in caches], dim=1)  # (B, layers, 2, H, T, d)
        tokens = stacked.permute(0, 4, 1, 2, 3, 5).flatten(2)  # a token's numbers lie together
        digits = torch.stack([lengths // _DIGIT, lengths % _DIGIT], dim=1).to(last.dtype)
        real = torch.arange(tokens.shape[1], device=lengths.device) < lengths[:, None]
        return torch.cat([digits, last, (tokens * real[:, :, None]).flatten(1)], dim=1)

    def unpack(self, state: Tensor) -> UserState:
        """What `pack` put together; zeros that were appended to a state change nothing."""
        digits = state[:, :2].detach().round().long()
        lengths = digits[:, 0] * _DIGIT + digits[:, 1]
        tokens = state[:, 2 + self.width :]
        shape = (len(state), tokens.shape[1] // self.per_token, self.layers, 2, self.heads, self.head_width)
        caches = tokens.reshape(shape).permute(2, 3, 0, 4, 1, 5)
        return UserState(state[:, 2 : 2 + self.width], [(one[0], one[1]) for one in caches], lengths)


@dataclass(frozen=True, slots=True)
class UserState:
    """An unpacked state."""

    last: Tensor  # (B, D)
    caches: list[tuple[Tensor, Tensor]]  # a layer: keys and values (B, H, T, d)
    lengths: Tensor  # (B,) of the prompts; what lies behind is no key
