"""The logarithm of a softmax's denominator over many items, with one buffer for logits, weights and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_partition(
    queries: Tensor,
    directions: Tensor,
    log_expected: Tensor | None = None,
    masked: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """log Σ_k exp(q_p · d_k − e_k) over the k that are not masked in p: (P, D), (K, D), (K,) → (P,).

    `masked`: rows and columns (M,) long that count nothing; a row with everything masked gives −inf. The gradient
    is taken once: the buffer of the weights becomes that of the logits' gradient.
    """
    found: Tensor = _LogPartition.apply(queries, directions, log_expected, masked)  # type: ignore[no-untyped-call]
    return found


def coincidences(targets: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns (M,) long where `targets` (P,) and `negatives` (K,) are the same item, without a (P, K) mask."""
    order = negatives.argsort()
    ranked = negatives[order]
    first = torch.searchsorted(ranked, targets)
    counts = torch.searchsorted(ranked, targets, right=True) - first
    rows = torch.arange(len(targets), device=targets.device).repeat_interleave(counts)
    of_row = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    return rows, order[first[rows] + of_row]


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        directions: Tensor,
        log_expected: Tensor | None,
        masked: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        kind = queries.device.type
        if torch.is_autocast_enabled(kind):  # what is kept for the backward pass must be what the product read
            dtype = torch.get_autocast_dtype(kind)
            queries, directions = queries.to(dtype), directions.to(dtype)
        logits = (queries @ directions.T).float()
        if log_expected is not None:
            logits.sub_(log_expected)
        if masked is not None:
            logits[masked] = -torch.inf
        largest = logits.amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)
        weights = logits.sub_(largest).exp_()
        sums = weights.sum(dim=1)
        ctx.save_for_backward(queries, directions, weights, sums)
        return largest[:, 0] + sums.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, directions, weights, sums = ctx.saved_tensors
        share = gradient / sums.clamp(min=torch.finfo(torch.float32).tiny)
        of_logits = weights.mul_(share[:, None]).to(queries.dtype)
        return of_logits @ directions, of_logits.T @ queries, None, None
