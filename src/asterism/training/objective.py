"""One training step's loss: next-token prediction over codes plus the contrastive term over items."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.config import TrainingConfig
from asterism.models.ugt import UGT
from asterism.training.batches import TrainingBatch
from asterism.training.losses import code_loss, full_item_loss, sampled_item_loss


class LossTerms(NamedTuple):
    """The loss that is minimised and the two terms it is made of, each a scalar."""

    total: Tensor
    codes: Tensor
    items: Tensor


class NextItemObjective(nn.Module):
    """L = w_codes L_ntp + w_items L_contrastive over every position of every history in the batch.

    A module of its own so that data-parallel wrappers see one forward pass a step.
    """

    def __init__(self, model: UGT, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, batch: TrainingBatch) -> LossTerms:
        """Each position's state is asked for the next item, and the learned start for each row's first."""
        states, targets = self._questions(batch)
        codes = self._code_loss(states, targets)
        items = self._item_loss(states, targets)
        total = self.config.code_loss_weight * codes + self.config.item_loss_weight * items
        return LossTerms(total, codes.detach(), items.detach())

    def _questions(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        asked = batch.targets >= 0
        states = self.model(batch.histories)[asked]
        first = batch.histories.mask.long().argmax(dim=1, keepdim=True)
        starts = self.model.start_states(batch.histories)
        firsts = batch.histories.items.gather(1, first)[:, 0]
        return torch.cat([states, starts]), torch.cat([batch.targets[asked], firsts])

    def _code_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        codes = self.model.items.codes[targets]
        logits = [self.model.decoder(states, codes[:, :level]) for level in range(codes.shape[1])]
        return code_loss(logits, codes)

    def _item_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        queries = self.model.item_queries(states)
        temperature = self.model.shape.temperature
        if self.config.negatives == 0 or self.config.negatives >= self.model.items.count:
            return full_item_loss(queries, self.model.item_directions(), targets, temperature)
        negatives = torch.randint(self.model.items.count, (self.config.negatives,), device=states.device)
        picked = functional.normalize(self.model.items(torch.cat([targets, negatives])), dim=-1)
        ours, theirs = picked[: len(targets)], picked[len(targets) :]
        return sampled_item_loss(queries, ours, theirs, targets, negatives, temperature)
