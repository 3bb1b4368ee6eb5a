"""Which items stand against the target in the item loss, and how often each was to be expected among them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from asterism.config.run import NegativeSampling


class NegativeDraw(NamedTuple):
    """The K negatives of one step: targets of other rows first, then items drawn from the catalogue."""

    own: Tensor  # (M,) long positions in the batch's targets, whose vectors are at hand
    drawn: Tensor  # (K − M,) long item indices
    log_expected: Tensor | None  # (K,) log of the expected count of each one's item; None leaves logits as they are


class NegativeSampler(nn.Module):
    """Draws one step's negatives.

    `uniform` takes each item alike; `popularity` draws by training counts plus one, so that no item is out of reach;
    `in_batch` takes other questions' targets (Yi et al. 2019, with exact counts in place of a streaming estimate);
    `mixed` takes half of each (mixed negative sampling, Yang et al. 2020), so that items without an event are among
    the negatives too. All but `uniform` give the expected counts that correct their logits; a mixture's are summed.
    """

    shares: Tensor

    def __init__(self, method: NegativeSampling, count: int, target_counts: Tensor) -> None:
        """`count` negatives a step; `target_counts` (N,): how often an epoch asks for each item."""
        super().__init__()
        self.method = method
        self.count = count
        smoothed = target_counts.double() + (1.0 if method == "popularity" else 0.0)
        self.register_buffer("shares", (smoothed / smoothed.sum()).float(), persistent=False)

    def forward(self, targets: Tensor) -> NegativeDraw:
        """Draw against targets (P,) long; the expected count is that among the negatives of one row."""
        nothing = targets.new_empty(0)
        if self.method == "uniform":
            return NegativeDraw(nothing, self._uniform(self.count, targets), None)
        if self.method == "popularity":
            drawn = torch.multinomial(self.shares, self.count, replacement=True)
            return NegativeDraw(nothing, drawn, torch.log(self.count * self.shares[drawn]))
        from_batch = self.count if self.method == "in_batch" else self.count // 2
        own = torch.randperm(len(targets), device=targets.device)[:from_batch]
        drawn = self._uniform(self.count - from_batch, targets)
        items = torch.cat([targets[own], drawn])
        # A row's own target is masked in it: of P targets, P − 1 can be its negatives.
        others = len(own) * max(1, len(targets) - 1) / len(targets)
        expected = others * self.shares[items] + len(drawn) / len(self.shares)
        return NegativeDraw(own, drawn, torch.log(expected))

    def _uniform(self, count: int, targets: Tensor) -> Tensor:
        return torch.randint(len(self.shares), (count,), device=targets.device)
