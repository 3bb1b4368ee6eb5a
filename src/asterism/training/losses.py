"""The terms of the training loss, as pure functions over named, shaped inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from asterism.training.partition import coincidences, log_partition


def code_loss(levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Next-token prediction: −mean over positions of Σ_l log p(c_l | c_<l, state).

    `levels`: per level the score of the right code (P,) and log Σ exp (P,) over all codes that can stand there.
    TIGER (Rajput et al. 2023), section 3.2, with a decoder that sees the state instead of the history and a softmax
    over the catalogue's own paths.
    """
    return torch.stack([(log_sum - own).mean() for own, log_sum in levels]).sum()


def full_item_loss(queries: Tensor, directions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Softmax cross-entropy of cosine scores over the whole catalogue.

    `queries` (P, D) and `directions` (N, D) unit vectors; `targets` (P,) long indices into N.
    """
    scaled = queries / temperature
    own = (scaled * directions.index_select(0, targets)).sum(-1)
    return (log_partition(scaled, directions) - own).mean()


def sampled_item_loss(
    queries: Tensor,
    target_directions: Tensor,
    negative_directions: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
    log_expected: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of the target against drawn negatives (InfoNCE, van den Oord et al. 2018).

    `queries`, `target_directions` (P, D); `negative_directions` (K, D); `targets` (P,), `negatives` (K,) long.
    A negative that is the target of its row is masked. `log_expected` (K,) is the log of how often each negative's
    item is expected among the K: subtracted from its logit (logQ: Bengio and Senécal 2008; Yi et al. 2019), the
    partition function is estimated without bias and the loss tends to the full softmax. Left out: the correction
    of the target itself, which is not drawn but certain to be there.
    """
    scaled = queries / temperature
    own = (scaled * target_directions).sum(-1)
    others = log_partition(scaled, negative_directions, log_expected, coincidences(targets, negatives))
    return functional.softplus(others - own).mean()  # log(exp(own) + exp(others)) − own


def alignment_loss(projected: Tensor, content: Tensor) -> Tensor:
    """Mean over items of 1 − cos(projected item vector, content vector), which is frozen.

    `projected`, `content` (M, C). An item without content, a row of zeros, counts 1 and moves nothing. After RLMRec
    (Ren et al. 2024), which aligns collaborative with text vectors by InfoNCE; left out are its negatives, without
    which a frozen side cannot collapse either.
    """
    return 1.0 - functional.cosine_similarity(projected, content, dim=-1).mean()


def preference_loss(chosen: Tensor, rejected: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over questions of the mean over their pairs of −log σ(s_chosen − s_rejected).

    `chosen` (Q,) and `rejected` (Q, R) scores; `present` (Q, R) False where there is no pair; `weights` (Q,), above
    zero where a row has a pair. Zero where there is no pair at all. BPR (Rendle et al. 2009), BPR-Opt of section
    4.1, without its regulariser; DPO (Rafailov et al. 2023), equation 7, is the same with the margin of a reference
    model subtracted, of which there is none while the model is first trained.
    """
    losses = functional.softplus(rejected - chosen[:, None]).masked_fill(~present, 0.0)
    pairs = present.sum(dim=1)
    per_question = losses.sum(dim=1) / pairs.clamp(min=1)
    weighted = weights * (pairs > 0)
    return (weighted * per_question).sum() / weighted.sum().clamp(min=torch.finfo(weights.dtype).tiny)
