"""What an item of a group is worth, given what the user really took next: pure functions, one row a group.

`items` (B, G) long, -1 where a group has fewer; `targets` (B,) long. A missing item is worth 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from asterism.config.run import RewardWeights
from asterism.data.sequences import Sequences


class Drawn(NamedTuple):
    """B groups of G items, to be rewarded."""

    rows: NDArray[np.int64]  # (B,) which questions
    items: Tensor  # (B, G) long, -1 where a group has fewer
    targets: Tensor  # (B,) long, what the user really took
    scores: Tensor  # (B, G) what the policy orders the items by
    values: Tensor  # (B,) of what was done with the target


Reward = Callable[[Drawn], Tensor]  # → (B, G); 0 where there is no item


def hit_rewards(items: Tensor, targets: Tensor) -> Tensor:
    """(B, G) 1 for the item that the user took, 0 for any other."""
    return (items == targets[:, None]).float()


def rank_penalties(items: Tensor, targets: Tensor, scores: Tensor) -> Tensor:
    """(B, G) 0 for the right item; −(1 / log2(ρ + 1)) / Σ 1 / log2(ρ + 1) for a wrong one at place ρ of its group.

    Places, from 1, are by `scores` (B, G), so that a wrong item which stood high costs more; the sum runs over the
    group's wrong items. The ranking reward of MiniOneRec (Kong et al. 2025), whose logarithm's base cancels.
    """
    present = items >= 0
    order = scores.masked_fill(~present, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = order.argsort(dim=1) + 1
    wrong = present & (items != targets[:, None])
    costs = (1 / torch.log2(places + 1.0)) * wrong
    return -costs / costs.sum(dim=1, keepdim=True).clamp(min=1e-9)


def semantic_rewards(items: Tensor, targets: Tensor, vectors: Tensor) -> Tensor:
    """(B, G) cosine of the vectors (N, D) of item and target; an item without a vector is like nothing."""
    directions = functional.normalize(vectors, dim=1)
    likeness = torch.einsum("bgd,bd->bg", directions[items.clamp(min=0)], directions[targets])
    return likeness.masked_fill(items < 0, 0.0)


def collaborative_rewards(items: Tensor, targets: Tensor, likeness: sparse.csr_array) -> Tensor:
    """(B, G) how much item and target are taken by the same users: their entry of `likeness` (N, N), 1 for the target.

    An entry lies in 0 to 1; `cosine_of_users` makes it.
    """
    rows = targets[:, None].expand_as(items).numpy().ravel()
    columns = items.clamp(min=0).numpy().ravel()
    found = torch.from_numpy(likeness[rows, columns].astype("float32")).view(items.shape)
    return torch.where(items == targets[:, None], 1.0, found).masked_fill(items < 0, 0.0)


def action_rewards(items: Tensor, targets: Tensor, values: Tensor) -> Tensor:
    """(B, G) for the item that the user took, the value of what was done with it, `values` (B,); 0 for any other."""
    return hit_rewards(items, targets) * values[:, None]


def variety_rewards(items: Tensor, vectors: Tensor) -> Tensor:
    """(B, G) 1 − the mean cosine of an item with the others of its group: what is like all the rest is worth less.

    `vectors` (N, D). An item alone in its group, or a missing one, is worth 0.
    """
    directions = functional.normalize(vectors, dim=1)[items.clamp(min=0)] * (items >= 0)[:, :, None]
    others = (items >= 0).sum(dim=1, keepdim=True) - 1
    likeness = torch.einsum("bgd,bhd->bg", directions, directions) - directions.square().sum(dim=2)
    return (1 - likeness / others.clamp(min=1)).masked_fill((items < 0) | (others < 1), 0.0)


def cosine_of_users(train: Sequences, items: int) -> sparse.csr_array:
    """(N, N) users who took both over √(users of one · users of the other): item-based likeness, Sarwar et al. 2001."""
    users = np.repeat(np.arange(len(train)), train.lengths)
    ones = np.ones(train.events)
    taken = sparse.coo_array((ones, (users, train.items)), shape=(len(train), items)).tocsr()
    taken.data[:] = 1.0  # a repeat counts once
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(np.asarray(taken.sum(axis=0)), 1)))
    return sparse.csr_array(scale @ (taken.T @ taken) @ scale)


def weighed_reward(weights: RewardWeights, vectors: NDArray[np.float32], train: Sequences) -> Reward:
    """The sum of the rewards that have weight; `vectors` (N, D) of the catalogue, `train` what users took."""
    directions = torch.from_numpy(vectors).float()
    likeness = cosine_of_users(train, len(vectors)) if weights.collaborative > 0 else None

    def reward(drawn: Drawn) -> Tensor:
        items, targets = drawn.items, drawn.targets
        total = weights.hit * hit_rewards(items, targets)
        if weights.rank > 0:
            total = total + weights.rank * rank_penalties(items, targets, drawn.scores)
        if weights.semantic > 0:
            total = total + weights.semantic * semantic_rewards(items, targets, directions)
        if likeness is not None:
            total = total + weights.collaborative * collaborative_rewards(items, targets, likeness)
        if weights.action > 0:
            total = total + weights.action * action_rewards(items, targets, drawn.values)
        if weights.variety > 0:
            total = total + weights.variety * variety_rewards(items, directions)
        return total

    return reward
