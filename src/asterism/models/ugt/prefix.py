"""What stands before the events: one token of the user's attributes, and one for each window of older events."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from asterism.config import ModelConfig
from asterism.models.policy import HistoryBatch
from asterism.models.ugt.buckets import HASH_BUCKETS, hash_bucket
from asterism.models.ugt.events import INPUT_SCALE
from asterism.models.ugt.group_norm import GroupLayerNorm
from asterism.models.ugt.items import ItemEncoder, row_means, small_embedding, starts_of
from asterism.models.windows import OlderEvents

_NEVER: Final = torch.iinfo(torch.long).max


class Tokens(NamedTuple):
    """What the blocks read: the prefix, then padding, then events."""

    states: Tensor  # (B, L, D)
    timestamps: Tensor  # (B, L) long, Unix seconds
    present: Tensor  # (B, L) bool
    groups: Tensor  # (L,) long, which norm the tokens of a column take: events 0, the user and windows their own


class UserToken(nn.Module):
    """A user's attributes as one vector, zero where none is known."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vectors = small_embedding(HASH_BUCKETS + 1, config.width)
        self.norm = GroupLayerNorm(1, config.width, INPUT_SCALE) if config.group_norm else None

    def forward(self, attributes: Tensor | None, rows: int) -> Tensor:
        """(B, A) codes → (B, D); for `rows` users without any column of attributes."""
        if attributes is None:
            attributes = torch.zeros(rows, 1, dtype=torch.long, device=self.vectors.weight.device)
        known = (attributes > 0).unsqueeze(-1)
        total: Tensor = (self.vectors(hash_bucket(attributes)) * known).sum(dim=1)
        return total if self.norm is None else self.norm(total, 0)


class WindowTokens(nn.Module):
    """The mean item of each window of older events, and a vector that tells the windows apart."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window = small_embedding(config.summaries, config.width)
        self.norm = GroupLayerNorm(1, config.width, INPUT_SCALE) if config.group_norm else None

    def forward(self, older: OlderEvents, items: ItemEncoder, seen: nn.Embedding | None) -> Tensor:
        """(B, S) windows → (B, S, D); what stands for an empty window means nothing. The cost is linear in events."""
        sizes = older.counts.flatten()
        means = items.window_means(older.items, sizes)
        if seen is not None:
            means = means + row_means(older.items, seen.weight, starts_of(sizes))
        means = means.view(*older.counts.shape, -1)
        return (means if self.norm is None else self.norm(means, 0)) + self.window.weight


class Prefix(nn.Module):
    """Puts the tokens that are switched on before the events; `columns` of them, in `groups` groups."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.user = UserToken(config) if config.user_attributes else None
        self.windows = WindowTokens(config) if config.summaries else None
        self.columns = int(self.user is not None) + config.summaries
        self.groups = 1 + int(self.user is not None) + int(self.windows is not None)

    def start(self, start: Tensor, histories: HistoryBatch) -> Tensor:
        """(D,) the learned start → (B, D) that of each user, by what is known of them."""
        if self.user is None:
            return start.expand(len(histories), -1)
        known: Tensor = self.user(histories.attributes, len(histories))
        return start + known

    def forward(
        self, events: Tensor, start: Tensor, histories: HistoryBatch, items: ItemEncoder, seen: nn.Embedding | None
    ) -> Tokens:
        """(B, T, D) events and the learned start (D,) → all tokens."""
        tokens = Tokens(events, histories.timestamps, histories.mask, _groups(0, events))
        if self.windows is not None:
            tokens = _joined(self._windows_of(histories, items, seen), tokens)
        if self.user is not None:
            oldest = tokens.timestamps.masked_fill(~tokens.present, _NEVER).amin(dim=1, keepdim=True)
            user = self.start(start, histories)[:, None]
            tokens = _joined(Tokens(user, oldest, torch.ones_like(oldest, dtype=torch.bool), _groups(1, user)), tokens)
        return tokens

    def _windows_of(self, histories: HistoryBatch, items: ItemEncoder, seen: nn.Embedding | None) -> Tokens:
        assert self.windows is not None
        older = histories.older
        if older is None:
            older = OlderEvents.none(len(histories), len(self.windows.window.weight), histories.items.device)
        states = self.windows(older, items, seen)
        return Tokens(states, older.timestamps, older.counts > 0, _groups(self.groups - 1, states))


def _groups(group: int, states: Tensor) -> Tensor:
    return torch.full((states.shape[1],), group, dtype=torch.long, device=states.device)


def _joined(first: Tokens, second: Tokens) -> Tokens:
    return Tokens(
        torch.cat([first.states, second.states], dim=1),
        torch.cat([first.timestamps, second.timestamps], dim=1),
        torch.cat([first.present, second.present], dim=1),
        torch.cat([first.groups, second.groups]),
    )
