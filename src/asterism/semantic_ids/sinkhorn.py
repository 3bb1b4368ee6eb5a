"""Sinkhorn's algorithm: a soft assignment of rows to columns whose totals are given, and a hard one from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_COOLING = 0.5
_COLDEST = 1e-3  # temperature, as a share of the largest finite cost
_PASSES = 20  # at each temperature
_SETTLED = 0.9  # of a row's mass on one column


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


def sinkhorn_assignment(costs: Tensor) -> Tensor:
    """(N,) a column for each row of an (N, N) cost matrix, each column once, with the least total cost.

    The temperature falls until the plan is a permutation. Where equal costs keep it soft, its likeliest pair is fixed
    and the rest solved again: at a low temperature every pair of the plan belongs to some best permutation.
    Forbidden pairs cost infinity; some permutation must be allowed.
    """
    working = costs.double().clone()
    size = len(working)
    capacities = working.new_ones(size)
    largest = float(working[working.isfinite()].abs().max()) or 1.0
    temperature, coldest = largest, _COLDEST * largest
    potentials: Tensor | None = None
    while True:
        plan, potentials = sinkhorn_plan(working, capacities, temperature, _PASSES, potentials)
        shares = plan.exp()
        mass, picked = shares.max(dim=1)
        if bool((mass > _SETTLED).all()) and len(set(picked.tolist())) == size:
            return picked
        if temperature > coldest:
            temperature *= _COOLING
            continue
        row = int(torch.where(mass > _SETTLED, -1.0, mass).argmax())
        column = int(picked[row])
        kept = working[row, column].clone()
        working[row, :] = math.inf
        working[:, column] = math.inf
        working[row, column] = kept
