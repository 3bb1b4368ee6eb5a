"""Direct preference optimisation of a policy: the losses, over log-ratios to a frozen reference.

A log-ratio is log π(item | history) − log π_ref(item | history). Where both are softmaxes of served scores over the
same candidates their normalisers cancel in every margin, so scores may stand in for log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asterism.config.run import AlignmentConfig, RejectedFrom
from asterism.core.errors import TrainingError
from asterism.core.progress import track
from asterism.models.policy import read_histories
from asterism.training.alignment.distribution import Candidates, divergence, entropy
from asterism.training.alignment.lessons import (
    Figures,
    Lesson,
    Rows,
    TrainablePolicy,
    encoded,
    mean,
    rows_at_once,
)
from asterism.training.alignment.processes import Processes
from asterism.training.alignment.questions import Questions
from asterism.training.alignment.rollouts import Roller


class LogRatios(NamedTuple):
    """What the policy thinks of the items of B preferences, against its reference."""

    chosen: Tensor  # (B,)
    rejected: Tensor  # (B, R)
    present: Tensor  # (B, R) False where a preference has no such rejected item


def dpo_loss(ratios: LogRatios, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """(B,) mean over a preference's pairs of −(1 − ε) log σ(β m) − ε log σ(−β m), m = chosen − rejected log-ratio.

    DPO (Rafailov et al. 2023), equation 7; with ε > 0 the conservative form, which takes each pair to be the wrong
    way round with probability ε (Mitchell 2023). A row without a pair counts zero.
    """
    margins = beta * (ratios.chosen[:, None] - ratios.rejected)
    losses = (1 - label_smoothing) * functional.softplus(-margins) + label_smoothing * functional.softplus(margins)
    return losses.masked_fill(~ratios.present, 0.0).sum(dim=1) / ratios.present.sum(dim=1).clamp(min=1)


def softmax_dpo_loss(ratios: LogRatios, beta: float) -> Tensor:
    """(B,) −log σ(−log Σ_r exp(β (rejected_r − chosen))): one chosen item against all its rejected ones at once.

    S-DPO (Chen et al. 2024), equation 9, the Plackett-Luce model with the chosen item first; with one rejected item it
    is DPO. A row without a rejected item counts zero.
    """
    gaps = (beta * (ratios.rejected - ratios.chosen[:, None])).masked_fill(~ratios.present, -torch.inf)
    some = ratios.present.any(dim=1)
    crowd = torch.logsumexp(gaps.masked_fill(~some[:, None], 0.0), dim=1)
    return functional.softplus(crowd) * some


class DirectPreference:
    """DPO as a stage: what is rejected and what the reference says of it are found once, before the first step."""

    def __init__(self, policy: TrainablePolicy, questions: Questions, roller: Roller, config: AlignmentConfig) -> None:
        """`policy` is the reference as it stands now; raises `TrainingError` where nothing was rejected."""
        self._distribution = roller.distribution
        self._questions = questions
        self._config = config
        items = _with_rejected(policy, questions, roller, config.rejected)
        self.rows: Rows = np.flatnonzero((items[:, 1:] >= 0).any(dim=1).numpy())
        if len(self.rows) == 0:
            raise TrainingError(
                f"there are no pairs for DPO: alignment.rejected is {config.rejected!r}, and in training no user left "
                "or liked less what was near an event; give impressions, skips or dislikes, or set it to 'beam'"
            )
        self._candidates, self._reference = self._referred(policy, items)
        self._values = torch.from_numpy(questions.values)

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        """One loss a batch: the mean over its preferences, each weighing what was done with the chosen item."""
        processes = Processes()
        for batch in batches:
            rows = batch[processes.share(len(batch))]
            policy.train(self._config.dropout)
            picked = torch.from_numpy(rows)
            candidates, reference = self._candidates.rows(picked), self._reference[picked]
            state = encoded(policy, self._questions.cases.take(rows))
            scores = self._distribution.scores(policy, state, candidates)
            moved = (scores - reference).masked_fill(~candidates.present, 0.0)
            ratios = LogRatios(moved[:, 0], moved[:, 1:], candidates.present[:, 1:])
            weights = self._values[picked]
            losses = self._losses(ratios)
            figures = Figures(
                reward=mean((scores[:, :1] > scores[:, 1:]).float(), candidates.present[:, 1:]),
                signal=1.0,
                kl=float(divergence(scores.detach(), reference).mean()),
                entropy=float(entropy(scores.detach()).mean()),
            )
            total = float(weights.sum())
            yield Lesson((weights * losses).sum() / max(total, 1e-9), total, figures)

    def state_dict(self) -> dict[str, Any]:
        """Nothing gathers: what the reference says is found again from the start."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""

    def _losses(self, ratios: LogRatios) -> Tensor:
        config = self._config
        if config.softmax:
            return softmax_dpo_loss(ratios, config.beta)
        return dpo_loss(ratios, config.beta, config.label_smoothing)

    @torch.inference_mode()
    def _referred(self, policy: TrainablePolicy, items: Tensor) -> tuple[Candidates, Tensor]:
        """The candidates of all questions, and the reference's scores of them."""
        policy.eval()
        found, scores = [], []
        together = rows_at_once(policy)
        for start in track(range(0, len(items), together), "asking the reference"):
            part = np.arange(start, min(start + together, len(items)))
            cases = self._questions.cases.take(part)
            histories = read_histories(policy, cases.histories)
            found.append(self._distribution.candidates(histories, items[torch.from_numpy(part)]))
            scores.append(self._distribution.scores(policy, encoded(policy, cases), found[-1]))
        of_history = [one.of_history for one in found if one.of_history is not None]
        return Candidates(items, torch.cat(of_history) if of_history else None).cloned(), torch.cat(scores).clone()


def _with_rejected(policy: TrainablePolicy, questions: Questions, roller: Roller, source: RejectedFrom) -> Tensor:
    """(questions, 1 + R) the item that was taken, then those to be rejected; -1 where there are fewer."""
    targets = torch.from_numpy(questions.cases.targets).long()[:, None]
    parts = []
    if source != "beam":
        parts.append(torch.from_numpy(questions.rejected).long())
    if source != "logged":
        parts.append(torch.from_numpy(_beams(policy, questions, roller)))
    rejected = torch.cat(parts, dim=1)
    rejected = rejected.masked_fill(rejected == targets, -1)
    if len(parts) == 2:  # what the log rejects need not be rejected twice
        logged = parts[0].shape[1]
        again = (rejected[:, logged:, None] == rejected[:, None, :logged]).any(dim=2)
        rejected[:, logged:] = rejected[:, logged:].masked_fill(again, -1)
    return torch.cat([targets, rejected], dim=1)


def _beams(policy: TrainablePolicy, questions: Questions, roller: Roller) -> NDArray[np.int64]:
    """(questions, C) what the policy itself would generate: the hardest negatives there are."""
    policy.eval()
    found = np.empty((len(questions), roller.count), dtype=np.int64)
    together = rows_at_once(policy)
    for start in track(range(0, len(found), together), "generating hard negatives"):
        rows = np.arange(start, min(start + together, len(found)))
        found[rows] = roller.candidates(policy, questions.cases.take(rows), keep_truth=False)[1].items.numpy()
    return found
