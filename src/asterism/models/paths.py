"""What a policy says of whole paths of codes."""

from __future__ import annotations

import torch
from torch import Tensor

from asterism.models.policy import Policy, ScoresPaths


def path_log_probs(policy: Policy, state: Tensor, paths: Tensor) -> Tensor:
    """(B, D) states and paths (B, W, levels) long → (B, W, levels) log p(code | the codes before it).

    Their sum over levels is the log-probability of the path's item. Differentiable where the policy is. A policy that
    scores whole paths does so in one pass.
    """
    if isinstance(policy, ScoresPaths):
        return policy.path_log_probs(state, paths)
    found = []
    for level in range(paths.shape[-1]):
        # The first level has one prefix, the empty one, whatever the path.
        prefixes = paths[:, :1, :0] if level == 0 else paths[:, :, :level]
        log_probs = policy.next_code_log_probs(state, prefixes).expand(-1, paths.shape[1], -1)
        found.append(log_probs.gather(2, paths[:, :, level : level + 1]))
    return torch.cat(found, dim=2)


def item_log_probs(policy: Policy, state: Tensor, paths: Tensor) -> Tensor:
    """(B, D) states and paths (B, W, levels) long → (B, W) log p(item) = Σ_l log p(c_l | c_<l)."""
    first, *later = path_log_probs(policy, state, paths).unbind(dim=2)
    return sum(later, start=first)  # in the order in which a beam adds them up
