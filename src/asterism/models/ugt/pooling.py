"""What the newest events are like, as one direction beside the state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asterism.models.ugt.jagged import DenseView, joined


class RecencyPooling(nn.Module):
    """A mean of the directions of a history's items, newer ones weighing more, times a gain that starts at zero.

    The weight of the k-th newest event is learned, w_k ∝ exp(a_k), and the same for all users. It gives the
    item head at once what attention would have to find out: that what comes next is often like what came last.
    No dropout reaches it, so no learned map may: beside the state it would be a way to learn by heart.
    """

    def __init__(self, max_events: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(-torch.arange(max_events) / 3.0)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, directions: Tensor, views: Sequence[DenseView], prefix: int) -> Tensor:
        """(N, D) unit vectors of the flat tokens, `prefix` columns of which are no events → (N, D)."""
        pooled = joined([view.flat(self._weights(view, prefix) @ view.dense(directions)) for view in views], views)
        scaled: Tensor = self.gain * pooled
        return scaled

    def _weights(self, view: DenseView, prefix: int) -> Tensor:
        """(b, l, l) what each key weighs for each query; rows sum to one."""
        age = (view.columns[:, None] - view.columns[None, :]).clamp(0, len(self.scores) - 1)
        events = (view.visible[:, 0] > 0) & (view.columns >= prefix)
        scores = self.scores[age].expand_as(events).masked_fill(~events, -torch.inf)
        return torch.softmax(scores, dim=-1).nan_to_num(0.0)
