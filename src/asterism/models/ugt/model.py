"""UGT: one position an item, pointwise attention over them, two heads on one state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.config import ModelConfig
from asterism.models.policy import HistoryBatch
from asterism.models.ugt.attention import PointwiseAttentionBlock, causal_visibility
from asterism.models.ugt.decoder import CodeDecoder
from asterism.models.ugt.items import ItemEncoder, small_embedding


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """What is known of the catalogue before training."""

    codes: Tensor  # (N, levels) long
    codebook_sizes: tuple[int, ...]
    content: Tensor  # (N, C) float


@dataclass(frozen=True, slots=True)
class UGTShape:
    """All that fixes the tensors of a UGT."""

    model: ModelConfig
    temperature: float  # of the item head's cosine


class UGT(nn.Module):
    """The Unified Generative Transformer; implements `asterism.models.policy.Policy`."""

    def __init__(self, items: ItemFeatures, shape: UGTShape) -> None:
        super().__init__()
        config = shape.model
        self.shape = shape
        self._codebook_sizes = items.codebook_sizes
        content = items.content if config.content else None
        self.items = ItemEncoder(items.codes, items.codebook_sizes, content, config.width, config.id_vectors)
        self.seen = small_embedding(self.items.count, config.width) if config.id_vectors else None
        self.start = nn.Parameter(torch.zeros(config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            PointwiseAttentionBlock(config.width, config.heads, config.max_events, config.dropout)
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.decoder = CodeDecoder(config.width, items.codebook_sizes, config.dropout)
        # A turn away from the state itself, whose residual stream carries the newest item; zero at the start.
        self.turn = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)
        self._item_directions: Tensor | None = None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, coarse to fine."""
        return self._codebook_sizes

    @property
    def max_events(self) -> int:
        """How many newest events the model reads."""
        return self.shape.model.max_events

    def train(self, mode: bool = True) -> UGT:
        """Switch dropout; item directions kept for inference are forgotten, since weights may change."""
        self._item_directions = None
        super().train(mode)
        return self

    def forward(self, histories: HistoryBatch) -> Tensor:
        """(B, T, D) a state after each event; what stands at padded positions means nothing."""
        states = self.dropout(self._inputs(histories.items.clamp(min=0)))
        visible = causal_visibility(histories.mask)
        for block in self.blocks:
            states = block(states, histories.timestamps, visible)
        normed: Tensor = self.norm(states)
        return normed

    def _inputs(self, items: Tensor) -> Tensor:
        """(..., D) an item as an event; its own `seen` vector lets what follows an item differ from what is like it."""
        vectors: Tensor = self.items(items)
        return vectors if self.seen is None else vectors + self.seen(items)

    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, D) the state after the newest event; of a user without events, the learned start."""
        newest = self(histories)[:, -1]
        return torch.where(histories.mask[:, -1:], newest, self.start_state())

    def start_state(self) -> Tensor:
        """(D,) the state of a user of whom nothing is known."""
        state: Tensor = self.norm(self.start)
        return state

    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        """(B, D) states, (B, W, l) prefixes → (B, W, codes of level l) log-probabilities."""
        beams = state[:, None, :].expand(-1, prefixes.shape[1], -1)
        return self.decoder.log_probs(beams, prefixes)

    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Cosine of state and item over the temperature: (B, N), or (B, C) for candidates (B, C)."""
        query = self.item_queries(state) / self.shape.temperature
        directions = self.item_directions()
        if items is None:
            return query @ directions.T
        return torch.einsum("bd,bcd->bc", query, directions[items])

    def item_queries(self, state: Tensor) -> Tensor:
        """(..., D) states → (..., D) unit vectors that are compared with item directions."""
        return functional.normalize(state + self.turn(state), dim=-1)

    def item_directions(self) -> Tensor:
        """(N, D) unit vectors of the catalogue; computed once in evaluation mode."""
        if self._item_directions is not None:
            return self._item_directions
        directions = functional.normalize(self.items.all(), dim=-1)
        if not self.training and not torch.is_grad_enabled():
            self._item_directions = directions
        return directions
