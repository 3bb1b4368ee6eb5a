"""Dropout whose mask costs a quarter of the usual one on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Dropout(nn.Module):
    """Zeroes a share of the entries in training and scales up the others, so that the mean stays.

    On a CPU one 64-bit draw decides over four entries, with a share rounded to 1/65,536 (and the scale to fit).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, states: Tensor) -> Tensor:
        """Any shape → the same shape."""
        if not self.training or self.share == 0.0:
            return states
        if states.device.type != "cpu":
            return functional.dropout(states, self.share)
        return states * _mask(states, min(round(self.share * 65_536), 65_535))


def _mask(states: Tensor, dropped: int) -> Tensor:
    """Zero for `dropped` of 65,536 entries on average, else what keeps the mean."""
    entries = states.numel()
    drawn = torch.empty(-(-entries // 4), dtype=torch.long).random_(torch.iinfo(torch.long).min, None)
    kept = drawn.view(torch.int16)[:entries].view(states.shape) >= dropped - 32_768
    return kept.to(states.dtype).mul_(65_536 / (65_536 - dropped))
