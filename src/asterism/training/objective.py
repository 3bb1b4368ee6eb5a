"""One training step's loss: codes, items, and where they are wanted content and preference."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.config import TrainingConfig
from asterism.models.ugt import UGT
from asterism.training.batches import TrainingBatch
from asterism.training.losses import (
    alignment_loss,
    code_loss,
    full_item_loss,
    preference_loss,
    sampled_item_loss,
)
from asterism.training.negatives import NegativeSampler


class LossTerms(NamedTuple):
    """The loss that is minimised and the terms it is made of, each a scalar."""

    total: Tensor
    codes: Tensor
    items: Tensor
    alignment: Tensor  # zero where it has no weight
    preference: Tensor  # likewise
    imbalance: Tensor  # of the experts' load; zero without experts


class _Asked(NamedTuple):
    """What the batch asks: from each state, the item that came next."""

    states: Tensor  # (P, D)
    targets: Tensor  # (P,) long
    asked: Tensor  # (B, T) the positions whose states come first in P; a start for each row follows


class NextItemObjective(nn.Module):
    """L = w_codes L_ntp + w_items L_contrastive + w_alignment L_alignment + w_preference L_preference + w_load L_load.

    Over every position of every history in the batch. A module of its own so that data-parallel wrappers see
    one forward pass a step; what alignment learns beside the model ends with the training.
    """

    def __init__(self, model: UGT, config: TrainingConfig, target_counts: Tensor) -> None:
        """`target_counts` (N,): how often an epoch asks for each item."""
        super().__init__()
        self.model = model
        self.config = config
        self.sampler = NegativeSampler(config.negative_sampling, config.negatives, target_counts)
        self.to_content = None
        if config.alignment_weight > 0:
            self.to_content = nn.Linear(model.shape.model.width, model.items.content.shape[1])

    def forward(self, batch: TrainingBatch) -> LossTerms:
        """Each position's state is asked for the next item, and the learned start for each row's first."""
        one = self._questions(batch)
        codes = self._code_loss(one)
        queries = self.model.item_queries(one.states)
        items, vectors, of_items = self._item_loss(queries, one.targets)
        alignment = self._alignment_loss(vectors, of_items)
        preference = self._preference_loss(queries, one, batch)
        imbalance = self.model.auxiliary_loss()
        total = (
            self.config.code_loss_weight * codes
            + self.config.item_loss_weight * items
            + self.config.alignment_weight * alignment
            + self.config.preference_weight * preference
            + self.config.load_balance_weight * imbalance
        )
        parts = (codes, items, alignment, preference, imbalance)
        return LossTerms(total, *(part.detach() for part in parts))

    def _questions(self, batch: TrainingBatch) -> _Asked:
        asked = batch.targets >= 0
        states = self.model(batch.histories)[asked[batch.histories.mask]]
        first = batch.histories.mask.long().argmax(dim=1, keepdim=True)
        starts = self.model.start_states(batch.histories)
        firsts = batch.histories.items.gather(1, first)[:, 0]
        return _Asked(torch.cat([states, starts]), torch.cat([batch.targets[asked], firsts]), asked)

    def _code_loss(self, one: _Asked) -> Tensor:
        return code_loss(self.model.decoder(self.model.code_states(one.states), one.targets))

    def _item_loss(self, queries: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and the unit vectors (M, D) that it was computed from with their items (M,)."""
        temperature = self.model.shape.temperature
        if self.config.negatives == 0 or self.config.negatives >= self.model.items.count:
            directions = self.model.item_directions()
            everything = torch.arange(len(directions), device=targets.device)
            return full_item_loss(queries, directions, targets, temperature), directions, everything
        own, drawn, log_expected = self.sampler(targets)
        items = torch.cat([targets, drawn])
        picked = functional.normalize(self.model.items(items), dim=-1)
        ours, theirs = picked[: len(targets)], picked[len(targets) :]
        negatives = torch.cat([ours[own], theirs])
        of_negatives = torch.cat([targets[own], drawn])
        loss = sampled_item_loss(queries, ours, negatives, targets, of_negatives, temperature, log_expected)
        return loss, picked, items

    def _alignment_loss(self, vectors: Tensor, items: Tensor) -> Tensor:
        if self.to_content is None:
            return vectors.new_zeros(())
        return alignment_loss(self.to_content(vectors), self.model.items.content[items])

    def _preference_loss(self, queries: Tensor, one: _Asked, batch: TrainingBatch) -> Tensor:
        if batch.rejected is None or batch.preference_weights is None:
            return queries.new_zeros(())
        rejected, weights = batch.rejected[one.asked], batch.preference_weights[one.asked]
        items = torch.cat([one.targets[: len(rejected), None], rejected.clamp(min=0)], dim=1)
        directions = functional.normalize(self.model.items(items), dim=-1)
        scores = torch.einsum("qd,qcd->qc", queries[: len(rejected)], directions) / self.model.shape.temperature
        return preference_loss(scores[:, 0], scores[:, 1:], rejected >= 0, weights)
