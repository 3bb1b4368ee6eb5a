"""The terms of the training loss, as pure functions over named, shaped inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def code_loss(logits: Sequence[Tensor], codes: Tensor) -> Tensor:
    """Next-token prediction: −mean over positions of Σ_l log p(c_l | c_<l, state).

    `logits`: per level (P, codes of that level), teacher-forced; `codes`: (P, levels) long.
    TIGER (Rajput et al. 2023), section 3.2, with a decoder that sees the state instead of the history.
    """
    terms = [functional.cross_entropy(level_logits, codes[:, level]) for level, level_logits in enumerate(logits)]
    return torch.stack(terms).sum()


def full_item_loss(queries: Tensor, directions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Softmax cross-entropy of cosine scores over the whole catalogue.

    `queries` (P, D) and `directions` (N, D) unit vectors; `targets` (P,) long indices into N.
    """
    return functional.cross_entropy((queries / temperature) @ directions.T, targets)


def sampled_item_loss(
    queries: Tensor,
    target_directions: Tensor,
    negative_directions: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
) -> Tensor:
    """Softmax cross-entropy of the target against negatives drawn uniformly (InfoNCE, van den Oord et al. 2018).

    `queries`, `target_directions` (P, D); `negative_directions` (K, D); `targets` (P,), `negatives` (K,) long.
    A negative that is the target of its row is masked. Uniform draws need no logQ correction: it is one constant.
    """
    positive = (queries * target_directions).sum(-1, keepdim=True) / temperature
    negative = (queries / temperature) @ negative_directions.T
    negative = negative.masked_fill(targets[:, None] == negatives[None, :], float("-inf"))
    logits = torch.cat([positive, negative], dim=1)
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
