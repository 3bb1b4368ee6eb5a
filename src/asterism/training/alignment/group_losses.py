"""Group-relative policy optimisation: advantages within a group, and the clipped loss with its variants.

A group is G items for one history; an item is T tokens: the levels of its code path, or one where the policy's
distribution is over items. All items of a policy have equally many tokens, so means over tokens (DAPO) and means of
sequence means (GRPO) are the same number here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asterism.config.run import RatioLevel

_TINY = 1e-6


class GroupLogProbs(NamedTuple):
    """Log-probabilities of the tokens of B groups of G items."""

    now: Tensor  # (B, G, T) of the policy that is trained
    drawn: Tensor  # (B, G, T) of the policy that made the group, without gradient
    reference: Tensor  # (B, G, T) of the frozen reference


class Clipping(NamedTuple):
    """How far a ratio may move from 1 before it stops to gain."""

    low: float  # 1 − low is the least; equal to `high` in PPO and GRPO
    high: float  # 1 + high is the most; larger than `low` in DAPO


class GroupLoss(NamedTuple):
    """The loss that is minimised and what it is made of, each a scalar."""

    total: Tensor
    kl: Tensor  # estimated, to the reference
    clipped: Tensor  # share of ratios at which clipping acts


def group_advantages(rewards: Tensor, present: Tensor, *, by_deviation: bool) -> Tensor:
    """(B, G) rewards → A_i = (r_i − mean of the group), divided by the group's standard deviation where asked.

    GRPO (DeepSeekMath, Shao et al. 2024, section 4.1.2); without the division Dr. GRPO (Liu et al. 2025), which does
    not inflate groups whose rewards hardly differ. Items that are not `present` (B, G) take no part and get zero. The
    deviation is the population's.
    """
    count = present.sum(dim=1, keepdim=True).clamp(min=1)
    mean = rewards.masked_fill(~present, 0.0).sum(dim=1, keepdim=True) / count
    centred = (rewards - mean).masked_fill(~present, 0.0)
    if not by_deviation:
        return centred
    deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
    return torch.where(deviation > _TINY, centred / deviation.clamp(min=_TINY), 0.0)


def has_signal(rewards: Tensor, present: Tensor) -> Tensor:
    """(B,) whether a group's rewards differ, so that it can teach something."""
    highest = rewards.masked_fill(~present, -torch.inf).amax(dim=1)
    lowest = rewards.masked_fill(~present, torch.inf).amin(dim=1)
    return highest - lowest > _TINY


def importance_ratios(now: Tensor, drawn: Tensor, level: RatioLevel) -> Tensor:
    """(B, G, T) π_now / π_drawn: token by token (GRPO), or for `sequence` their geometric mean in each token.

    GSPO (Zheng et al. 2025), equation 7: s = exp(1/T Σ_t (log π_now − log π_drawn)).
    """
    log_ratios = now - drawn
    if level == "sequence":
        log_ratios = log_ratios.mean(dim=2, keepdim=True).expand_as(log_ratios)
    return log_ratios.exp()


def kl_estimate(now: Tensor, reference: Tensor) -> Tensor:
    """π_ref / π − log(π_ref / π) − 1, elementwise: never negative, zero where both agree, unbiased for draws from π.

    Schulman's third estimator, as in GRPO's equation 4.
    """
    gap = reference - now
    return gap.exp() - gap - 1


def grpo_loss(
    log_probs: GroupLogProbs,
    advantages: Tensor,
    present: Tensor,
    clipping: Clipping,
    level: RatioLevel,
    kl_weight: float,
) -> GroupLoss:
    """−mean over items and tokens of min(ρ A, clip(ρ) A) − kl_weight · KL; `advantages`, `present` (B, G).

    GRPO, equation 3. DAPO (Yu et al. 2025) is `clipping.high` above `clipping.low` and a `kl_weight` of zero; GSPO is
    `level` = sequence. Left out: DAPO's penalty for overlong answers, since all answers are equally long.
    """
    ratios = importance_ratios(log_probs.now, log_probs.drawn, level)
    bounded = ratios.clamp(1 - clipping.low, 1 + clipping.high)
    gains = advantages[:, :, None]
    surrogate = torch.minimum(ratios * gains, bounded * gains)
    divergence = kl_estimate(log_probs.now, log_probs.reference)
    weights = present[:, :, None].expand_as(surrogate) / present.sum().clamp(min=1) / surrogate.shape[2]
    kl = (divergence * weights).sum()
    total = -(surrogate * weights).sum()
    if kl_weight > 0:  # else it may be infinite, of items that the policy has all but given up
        total = total + kl_weight * kl
    clipped = ((ratios * gains > bounded * gains) * weights).sum()
    return GroupLoss(total, kl.detach(), clipped.detach())
