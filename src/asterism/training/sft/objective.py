"""The supervised loss: of answers alone, codes among their level, text among the vocabulary."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.llm import LLM
from asterism.models.llm.backbone import hidden_states
from asterism.models.llm.rows import vocabulary_logits
from asterism.training.sft.example import TEXT
from asterism.training.sft.packing import PackedBatch


class SupervisedTerms(NamedTuple):
    """The loss that is minimised, and the mean −log p of the tokens it is made of; each a scalar."""

    total: Tensor
    codes: Tensor  # zero where no code is asked for
    text: Tensor  # likewise


class SupervisedObjective(nn.Module):
    """L = Σ w_t · (−log p(t)) / Σ w_t over the asked tokens t of a batch.

    A code's probability is that among the codes of its level, which is what decoding asks; a word's is that among the
    whole vocabulary. The vocabulary's logits are made for the asked words alone.
    """

    def __init__(self, model: LLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PackedBatch) -> SupervisedTerms:
        """A token is predicted by the state of the one before it."""
        states = hidden_states(
            self.model.language, batch.tokens, attention_mask=batch.visible, position_ids=batch.positions
        )[:, :-1]
        asked, targets, weights = batch.asked[:, 1:], batch.targets[:, 1:], batch.weights[:, 1:]
        codes, of_codes = self._codes(states, asked, targets, weights)
        where = asked == TEXT
        logits = vocabulary_logits(self.model.language, states[where])
        text = functional.cross_entropy(logits.float(), targets[where], reduction="none")
        of_text = weights[where]
        total = (codes @ of_codes + text @ of_text) / mean_over_processes(of_codes.sum() + of_text.sum())
        return SupervisedTerms(total, _mean(codes), _mean(text))

    def _codes(self, states: Tensor, asked: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) −log p of all asked codes, level by level, and their weights."""
        losses, of_losses = [], []
        for level in range(self.model.spoken):
            where = asked == level
            log_probs = self.model.code_log_probs(states[where], level)
            losses.append(-log_probs.gather(1, targets[where][:, None])[:, 0])
            of_losses.append(weights[where])
        return torch.cat(losses), torch.cat(of_losses)


def mean_over_processes(weight: Tensor) -> Tensor:
    """The mean of a scalar over all processes that train together, without gradient.

    What each divides its sum by, so that the mean of their gradients is the gradient of the mean over all their tokens.
    """
    if not torch.distributed.is_initialized():
        return weight.detach()
    total = weight.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def _mean(losses: Tensor) -> Tensor:
    return losses.detach().sum() / max(1, len(losses))
