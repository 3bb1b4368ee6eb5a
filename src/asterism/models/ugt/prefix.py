"""What stands before the events: one token of the user's attributes, and one for each window of older events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from asterism.config import ModelConfig
from asterism.models.policy import HistoryBatch
from asterism.models.ugt.buckets import HASH_BUCKETS, hash_bucket
from asterism.models.ugt.events import INPUT_SCALE
from asterism.models.ugt.group_norm import GroupLayerNorm
from asterism.models.ugt.items import ItemEncoder, row_means, small_embedding, starts_of
from asterism.models.ugt.jagged import Packing
from asterism.models.windows import OlderEvents

_NEVER: Final = torch.iinfo(torch.long).max


class Tokens(NamedTuple):
    """What the blocks read: N flat tokens, the events last, and where each stands in its row."""

    states: Tensor  # (N, D)
    groups: Tensor  # (N,) long, which norm a token takes: events 0, the user and windows their own
    packing: Packing


class _Part(NamedTuple):
    """Some columns of all rows."""

    states: Tensor  # (n, D) of the tokens that are present, row by row
    timestamps: Tensor  # (B, C) long, Unix seconds
    present: Tensor  # (B, C) bool, n of them true
    group: int


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
        """(B, S) windows → (n, D) of those that are not empty, row by row. The cost is linear in events."""
        sizes = older.counts.flatten()
        means = items.window_means(older.items, sizes)
        if seen is not None:
            means = means + row_means(older.items, seen.weight, starts_of(sizes))
        normed = means if self.norm is None else self.norm(means, 0)
        every: Tensor = normed.view(*older.counts.shape, -1) + self.window.weight
        return every[older.counts > 0]


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
        """(E, D) events in the order of `histories.mask` and the learned start (D,) → all tokens."""
        parts = [_Part(events, histories.timestamps, histories.mask, 0)]
        if self.windows is not None:
            parts.insert(0, self._windows_of(histories, items, seen))
        if self.user is not None:
            times = [one.timestamps.masked_fill(~one.present, _NEVER) for one in parts]
            oldest = torch.cat(times, dim=1).amin(dim=1, keepdim=True)
            user = self.start(start, histories)
            parts.insert(0, _Part(user, oldest, torch.ones_like(oldest, dtype=torch.bool), 1))
        return _tokens(parts, self.columns)

    def _windows_of(self, histories: HistoryBatch, items: ItemEncoder, seen: nn.Embedding | None) -> _Part:
        assert self.windows is not None
        older = histories.older
        if older is None:
            older = OlderEvents.none(len(histories), len(self.windows.window.weight), histories.items.device)
        states = self.windows(older, items, seen)
        return _Part(states, older.timestamps, older.counts > 0, self.groups - 1)


def _tokens(parts: Sequence[_Part], prefix: int) -> Tokens:
    present = torch.cat([one.present for one in parts], dim=1)
    places, groups, column = [], [], 0
    for one in parts:
        row, own = one.present.nonzero().unbind(dim=1)
        places.append(row * present.shape[1] + own + column)
        groups.append(torch.full_like(row, one.group))
        column += one.present.shape[1]
    timestamps = torch.cat([one.timestamps for one in parts], dim=1)
    packing = Packing(timestamps, present, torch.cat(places), prefix)
    return Tokens(torch.cat([one.states for one in parts]), torch.cat(groups), packing)
