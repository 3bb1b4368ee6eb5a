"""Sinkhorn's algorithm: a soft assignment of rows to columns whose totals are given."""

from __future__ import annotations

import torch
from torch import Tensor


def sinkhorn_plan(
    costs: Tensor, capacities: Tensor, temperature: float, passes: int, potentials: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(N, K) log of the plan that gives each row one unit and each column its capacity, and the (K,) potentials.

    Entropic optimal transport (Cuturi 2013) in the log domain; costs may be infinite where a pair is forbidden,
    and capacities should sum to N. `potentials` from a higher temperature start it.
    """
    targets = capacities.log()
    columns = torch.zeros_like(targets) if potentials is None else potentials
    scaled = -costs / temperature
    rows = scaled.new_zeros(len(costs))
    for _ in range(passes):
        rows = -torch.logsumexp(scaled + columns / temperature, dim=1)
        columns = temperature * (targets - torch.logsumexp(scaled + rows[:, None], dim=0))
    return scaled + rows[:, None] + columns / temperature, columns
