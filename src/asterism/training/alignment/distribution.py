"""Which distribution over items is aligned: the one that orders what is served, or the one over code paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asterism.config.run import AlignedScore, DecodingConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.rescoring import fuse
from asterism.models.paths import item_log_probs, path_log_probs
from asterism.models.policy import HistoryBatch, Policy


class Candidates(NamedTuple):
    """C different items for each of B questions; -1 where a question has fewer."""

    items: Tensor  # (B, C) long
    of_history: Tensor | None  # (B, C) what content and neighbour heads add to the served score, without gradient

    @property
    def present(self) -> Tensor:
        """(B, C) True where there is an item."""
        return self.items >= 0

    def rows(self, picked: Tensor) -> Candidates:
        """The given questions."""
        return Candidates(self.items[picked], None if self.of_history is None else self.of_history[picked])

    def cloned(self) -> Candidates:
        """Copies that gradients may flow past, of tensors made in inference mode."""
        return Candidates(self.items.clone(), None if self.of_history is None else self.of_history.clone())


@dataclass(frozen=True, slots=True)
class ItemDistribution:
    """How a policy's answers become log-probabilities of candidates.

    `served`: a softmax over the candidates of the fused score, by which the final order is made, over `temperature`:
    item head and codes get gradients by their weights there, and learn what content and neighbours leave to them. One
    token an item. `codes`: the path's codes, a token a level, as the beam scores them.
    """

    kind: AlignedScore
    paths: Tensor  # (N, levels) long
    weights: DecodingConfig
    heads: HistoryHeads
    temperature: float = 1.0

    @classmethod
    def of(
        cls,
        kind: AlignedScore,
        table: SemanticIdTable,
        weights: DecodingConfig,
        heads: HistoryHeads,
        temperature: float = 1.0,
    ) -> ItemDistribution:
        """The distribution over the items of a table; `codes` are log-probabilities already and have no temperature."""
        return cls(kind, torch.from_numpy(table.codes).long(), weights, heads, temperature if kind == "served" else 1.0)

    def candidates(self, histories: HistoryBatch, items: Tensor) -> Candidates:
        """Candidates `items` (B, C) with what the history's heads say of them; both on the CPU."""
        if self.kind == "codes":
            return Candidates(items, None)
        return Candidates(items, self.heads.weighted(histories, items.clamp(min=0), self.weights))

    def scores(self, policy: Policy, state: Tensor, candidates: Candidates) -> Tensor:
        """(B, C) what candidates are ordered by, over the temperature; -inf where there is none. On the CPU."""
        items = candidates.items.clamp(min=0)
        if self.kind == "codes":
            scores = self._code_scores(policy, state, items)
        else:
            head = torch.zeros(items.shape)
            if self.weights.item_weight > 0:
                head = policy.item_scores(state, items.to(state.device)).float().cpu()
            codes = self._code_scores(policy, state, items) if self.weights.code_weight > 0 else None
            scores = fuse(head, codes, candidates.of_history, self.weights)
        return (scores / self.temperature).masked_fill(~candidates.present, -torch.inf)

    def token_log_probs(self, policy: Policy, state: Tensor, candidates: Candidates, picked: Tensor) -> Tensor:
        """(B, G, T) log-probabilities of the tokens of candidates at places `picked` (B, G); 0 where none is."""
        if self.kind == "codes":
            items = candidates.items.gather(1, picked).clamp(min=0)
            found = path_log_probs(policy, state, self.paths[items].to(state.device)).cpu()
        else:
            found = torch.log_softmax(self.scores(policy, state, candidates), dim=1).gather(1, picked)[:, :, None]
        return found.masked_fill(~candidates.present.gather(1, picked)[:, :, None], 0.0)

    def _code_scores(self, policy: Policy, state: Tensor, items: Tensor) -> Tensor:
        return item_log_probs(policy, state, self.paths[items].to(state.device)).cpu()


def divergence(scores: Tensor, reference: Tensor) -> Tensor:
    """(B,) Σ p log(p / q) over candidates, for scores (B, C) of both, -inf where a question has fewer."""
    ours, theirs = torch.log_softmax(scores, dim=1), torch.log_softmax(reference, dim=1)
    gap = torch.where(torch.isfinite(ours), ours - theirs, 0.0)
    return (ours.exp() * gap).sum(dim=1)


def entropy(scores: Tensor) -> Tensor:
    """(B,) −Σ p log p over candidates."""
    ours = torch.log_softmax(scores, dim=1)
    return -(ours.exp() * torch.where(torch.isfinite(ours), ours, 0.0)).sum(dim=1)


def fitted_temperature(scores: Tensor, right: Tensor) -> float:
    """The temperature, a power of √2 from 1/8 to 32, at which the right candidates are likeliest.

    `scores` (B, C), -inf where there is none; `right` (B, C) True at the item that was taken, where it is there. 1
    where it never is.
    """
    there = right.any(dim=1)
    if not there.any():
        return 1.0
    scores, right = scores[there], right[there]
    grid: list[float] = [2.0 ** (step / 2) for step in range(-6, 11)]
    likely = [float(torch.log_softmax(scores / one, dim=1)[right].mean()) for one in grid]
    best: float = grid[int(np.argmax(likely))]
    return best
