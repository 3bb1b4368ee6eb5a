"""Trainable rows of frozen embedding matrices: the semantic ids' alone learn, the words stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class GrownEmbedding(nn.Module):
    """An embedding matrix whose rows for some tokens are parameters of their own, and all others frozen.

    The gradient and the optimiser's moments then have the size of the new rows, whatever the vocabulary's.
    """

    slots: Tensor  # (V,) long, the place of a token among the new rows, -1 of all others
    tokens: Tensor  # (n,) long

    def __init__(self, causal: Any, tokens: Tensor) -> None:
        """Take over the rows of `tokens` (n,) of a causal language model's input embeddings and output head."""
        super().__init__()
        self.base: nn.Embedding = causal.get_input_embeddings()
        head: Tensor = causal.get_output_embeddings().weight
        slots = torch.full((len(self.base.weight),), -1)
        slots[tokens] = torch.arange(len(tokens))
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("tokens", tokens.clone(), persistent=False)
        self.inputs = nn.Parameter(self.base.weight.detach()[tokens].clone())
        tied = head is self.base.weight
        self.outputs = None if tied else nn.Parameter(head.detach()[tokens].clone())

    @property
    def weight(self) -> Tensor:
        """The frozen matrix."""
        return self.base.weight

    @property
    def head(self) -> Tensor:
        """(n, D) the new rows of the output head."""
        return self.inputs if self.outputs is None else self.outputs

    def forward(self, tokens: Tensor) -> Tensor:
        """(...,) tokens → (..., D)."""
        slots = self.slots[tokens]
        return torch.where(slots[..., None] >= 0, self.inputs[slots.clamp(min=0)], self.base(tokens))

    @torch.no_grad()
    def put_back(self, causal: Any) -> None:
        """Write the rows into the matrices and give the model its plain embedding back."""
        self.base.weight[self.tokens] = self.inputs
        causal.get_output_embeddings().weight[self.tokens] = self.head
        causal.set_input_embeddings(self.base)


def head_rows(causal: Any, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows (n, D) of the output head for tokens (n,) of semantic ids, and their bias."""
    inputs, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    bias = getattr(head, "bias", None)
    weight = inputs.head[inputs.slots[tokens]] if isinstance(inputs, GrownEmbedding) else head.weight[tokens]
    return weight, None if bias is None else bias[tokens]


def vocabulary_logits(causal: Any, hidden: Tensor) -> Tensor:
    """(n, D) hidden vectors → (n, V) logits over the whole vocabulary."""
    inputs, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    logits: Tensor = head(hidden)
    if not isinstance(inputs, GrownEmbedding):
        return logits
    weight, bias = head_rows(causal, inputs.tokens)
    return logits.index_copy(-1, inputs.tokens, functional.linear(hidden, weight, bias))
