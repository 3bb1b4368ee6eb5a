"""UGT: one position an item, pointwise attention over them, two heads on one state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.config import ModelConfig
from asterism.models.policy import HistoryBatch, HistoryLayout
from asterism.models.ugt.attention import PointwiseAttentionBlock
from asterism.models.ugt.decoder import CodeDecoder, zero_linear
from asterism.models.ugt.dropout import Dropout
from asterism.models.ugt.events import EventTokens
from asterism.models.ugt.experts import FeedForward, MixtureOfExperts
from asterism.models.ugt.items import ItemEncoder, small_embedding
from asterism.models.ugt.pooling import RecencyPooling
from asterism.models.ugt.prefix import Prefix


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
    """The Unified Generative Transformer; implements `asterism.models.policy.Policy`.

    A state is D wide, or where the history is pooled S = 2 D: what the blocks made, then what was pooled.
    """

    def __init__(self, items: ItemFeatures, shape: UGTShape) -> None:
        super().__init__()
        config = shape.model
        self.shape = shape
        self._codebook_sizes = items.codebook_sizes
        content = items.content if config.content else None
        self.items = ItemEncoder(items.codes, items.codebook_sizes, content, config.width, config.id_vectors)
        # An item as an event has one vector more, so that what follows it may differ from what is like it.
        self.seen = small_embedding(self.items.count, config.width) if config.id_vectors else None
        self.start = nn.Parameter(torch.zeros(config.width))
        self.events = EventTokens(config)
        self.prefix = Prefix(config)
        self.dropout = Dropout(config.dropout)
        token_groups = self.prefix.groups if config.group_norm else 1
        self.blocks = nn.ModuleList(
            PointwiseAttentionBlock(
                config.width, config.heads, config.max_events, config.dropout, self.prefix.columns, token_groups
            )
            for _ in range(config.blocks)
        )
        self.feed_forwards = nn.ModuleList(
            FeedForward(config.width, config.experts, config.expert_top_k, token_groups, config.dropout)
            for _ in range(config.blocks if config.experts else 0)
        )
        self.norm = nn.LayerNorm(config.width)
        self.pooling = RecencyPooling(config.max_events) if config.recency_pooling else None
        self.decoder = CodeDecoder(
            config.width, items.codes, items.codebook_sizes, content, temperature=shape.temperature
        )
        # A turn away from the state itself, whose residual stream carries the newest item.
        self.turn = zero_linear(config.width)
        self._item_directions: Tensor | None = None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, coarse to fine."""
        return self._codebook_sizes

    @property
    def max_events(self) -> int:
        """How many newest events the model reads one by one."""
        return self.shape.model.max_events

    @property
    def layout(self) -> HistoryLayout:
        """What of a history the model reads."""
        config = self.shape.model
        contexts = config.values or config.contexts or config.asked or config.user_attributes
        return HistoryLayout(config.max_events, contexts, config.summaries, config.max_history)

    def train(self, mode: bool = True) -> UGT:
        """Switch dropout; what was kept of earlier passes is forgotten."""
        self._item_directions = None
        for one in self.modules():
            if isinstance(one, MixtureOfExperts):
                one.imbalance = None
        super().train(mode)
        return self

    def forward(self, histories: HistoryBatch) -> Tensor:
        """(E, S) a state after each event, row by row and oldest first: the order of `histories.mask`."""
        items = histories.items[histories.mask]
        vectors = self.items(items)
        events = self.events(vectors if self.seen is None else vectors + self.seen(items), histories)
        tokens = self.prefix(events, self.start, histories, self.items, self.seen)
        states = self.dropout(tokens.states)
        views = tokens.packing.views()
        for depth, block in enumerate(self.blocks):
            states = block(states, views, tokens.groups)
            if self.feed_forwards:
                states = self.feed_forwards[depth](states, tokens.groups)
        first = len(states) - len(events)
        result: Tensor = self.norm(states[first:])
        if self.pooling is not None:
            directions = functional.pad(functional.normalize(vectors, dim=-1), (0, 0, first, 0))
            result = torch.cat([result, self.pooling(directions, views, self.prefix.columns)[first:]], dim=-1)
        return result

    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, S) the state after the newest event; of a user without events, the start state."""
        starts = self.start_states(histories)
        lengths = histories.mask.sum(dim=1)
        known = lengths > 0
        newest = self(histories)[lengths.cumsum(0)[known] - 1]
        return starts.masked_scatter(known[:, None], newest.to(starts.dtype))

    def start_states(self, histories: HistoryBatch) -> Tensor:
        """(B, S) the states of users before their first event, by their attributes where the model reads them."""
        states: Tensor = self.norm(self.prefix.start(self.start, histories))
        return states if self.pooling is None else functional.pad(states, (0, states.shape[-1]))

    def auxiliary_loss(self) -> Tensor:
        """The load imbalance of the experts, mean over blocks, in the last training pass; zero without experts.

        A scalar, 1 where the load is even. It is added to the loss with a small weight (0.01 in Fedus et al. 2021).
        """
        found = [one.imbalance for one in self.modules() if isinstance(one, MixtureOfExperts)]
        terms = [one for one in found if one is not None]
        return torch.stack(terms).mean() if terms else self.start.new_zeros(())

    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        """(B, S) states, (B, W, l) prefixes → (B, W, codes of level l) log-probabilities."""
        return self.decoder.log_probs(self.code_states(state), prefixes)

    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Cosine of state and item over the temperature: (B, N), or (B, C) for candidates (B, C)."""
        query = self.item_queries(state) / self.shape.temperature
        directions = self.item_directions()
        if items is None:
            return query @ directions.T
        return torch.einsum("bd,bcd->bc", query, directions[items])

    def item_queries(self, state: Tensor) -> Tensor:
        """(..., S) states → (..., D) unit vectors that are compared with item directions."""
        width = self.shape.model.width
        own, pooled = state[..., :width], state[..., width:]
        query = functional.normalize(own + self.turn(own), dim=-1)
        return query if self.pooling is None else functional.normalize(query + pooled, dim=-1)

    def code_states(self, state: Tensor) -> Tensor:
        """(..., S) states → (..., D) the part that the code decoder reads."""
        return state[..., : self.shape.model.width]

    def item_directions(self) -> Tensor:
        """(N, D) unit vectors of the catalogue; computed once in evaluation mode."""
        if self._item_directions is not None:
            return self._item_directions
        directions = functional.normalize(self.items.all(), dim=-1)
        if not self.training and not torch.is_grad_enabled():
            self._item_directions = directions
        return directions
