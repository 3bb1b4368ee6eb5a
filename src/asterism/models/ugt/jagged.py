"""Rows of unequal length: flat where tokens are worked on one by one, dense only where they meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from asterism.models.ugt.buckets import gap_bucket

#: Scores of a head up to which a batch stays one view: below, more views cost more calls than they save work.
_ONE_VIEW_SCORES: Final = 1 << 18
_SHORTEST_VIEW: Final = 8


@dataclass(frozen=True, slots=True)
class DenseView:
    """Some rows of a batch as a dense (b, l) block, and what attention reads of it."""

    columns: Tensor  # (l,) long, of the padded batch: the prefix, then the newest events
    timestamps: Tensor  # (b, l) long, Unix seconds
    present: Tensor  # (b, l) bool
    visible: Tensor  # (b, 1, l, l) one where a query may see a key, else zero
    gaps: Tensor  # (b, l, l) long, time bucket of query and key
    places: Tensor  # (n,) long, where in the flattened block the n tokens stand
    tokens: Tensor | None  # (n,) long, which flat tokens they are; None for all of them in their order
    full: bool  # whether the flat tokens are the block as it is

    def dense(self, flat: Tensor) -> Tensor:
        """(N, D) flat tokens of the batch → (b, l, D), zero where there is none."""
        rows, columns = self.present.shape
        if self.full:
            return flat.view(rows, columns, -1)
        block = flat.new_zeros(rows * columns, flat.shape[-1])
        own = flat if self.tokens is None else flat.index_select(0, self.tokens)
        return block.index_copy_(0, self.places, own).view(rows, columns, -1)

    def flat(self, dense: Tensor) -> Tensor:
        """(b, l, D) → (n, D), the tokens of this view."""
        every = dense.flatten(0, 1)
        return every if self.full else every.index_select(0, self.places)


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the N flat tokens of a batch of B rows stand in its padded form of L columns."""

    timestamps: Tensor  # (B, L) long, Unix seconds
    present: Tensor  # (B, L) bool, where there is a token
    places: Tensor  # (N,) long, row · L + column of each flat token
    prefix: int  # columns that stand before the events

    def views(self) -> list[DenseView]:
        """The batch as one dense block, or as a block for each range of lengths where much of one would be padding."""
        if _in_one_view(self.present):
            return [self._whole()]
        lengths = self.present[:, self.prefix :].sum(dim=1)
        events = self.present.shape[1] - self.prefix
        token_at = torch.full_like(self.present.flatten(), -1, dtype=torch.long)
        token_at[self.places] = torch.arange(len(self.places), device=token_at.device)
        return [self._part(rows, min(longest, events), token_at) for rows, longest in _alike(lengths)]

    def _whole(self) -> DenseView:
        columns = torch.arange(self.present.shape[1], device=self.present.device)
        full = self.prefix == 0 and len(self.places) == self.present.numel()
        return _view(columns, self.timestamps, self.present, self.places, None, full)

    def _part(self, rows: Tensor, events: int, token_at: Tensor) -> DenseView:
        """The prefix and the newest `events` columns of some rows; `token_at` (B · L,) long, -1 for none."""
        total = self.present.shape[1]
        order = torch.arange(total, device=rows.device)
        columns = torch.cat([order[: self.prefix], order[total - events :]])
        block = rows[:, None] * total + columns
        tokens = token_at[block].flatten()
        places = (tokens >= 0).nonzero()[:, 0]
        timestamps, present = self.timestamps.flatten()[block], self.present.flatten()[block]
        return _view(columns, timestamps, present, places, tokens[places], full=False)


def attention_positions(mask: Tensor) -> int:
    """Positions, padding among them, of the blocks in which attention sees the events of a padded batch (B, T)."""
    if _in_one_view(mask):
        return mask.numel()
    return sum(len(rows) * min(longest, mask.shape[1]) for rows, longest in _alike(mask.sum(dim=1)))


def _in_one_view(present: Tensor) -> bool:
    rows, columns = present.shape
    return present.device.type != "cpu" or rows * columns**2 <= _ONE_VIEW_SCORES


def _view(
    columns: Tensor, timestamps: Tensor, present: Tensor, places: Tensor, tokens: Tensor | None, full: bool
) -> DenseView:
    visible, gaps = causal_visibility(present), time_bucket(timestamps)
    return DenseView(columns, timestamps, present, visible, gaps, places, tokens, full)


def _alike(lengths: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Rows (b,) of at most so many events and more than half as many, from the shortest on."""
    done, longest = torch.zeros_like(lengths, dtype=torch.bool), _SHORTEST_VIEW
    while not bool(done.all()):
        rows = ((lengths <= longest) & ~done).nonzero()[:, 0]
        if len(rows):
            yield rows, longest
        done, longest = lengths <= longest, 2 * longest


def joined(parts: Sequence[Tensor], views: Sequence[DenseView]) -> Tensor:
    """The tokens of each view (n, D) → all flat tokens (N, D)."""
    if len(views) == 1 and views[0].tokens is None:
        return parts[0]
    tokens = torch.cat([view.tokens for view in views if view.tokens is not None])
    return torch.cat(list(parts)).index_select(0, tokens.argsort())


def causal_visibility(present: Tensor) -> Tensor:
    """(B, L) where there is a token → (B, 1, L, L) one where a query may see a key, else zero."""
    tokens = present.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=present.device).tril()
    return (causal[None] & present[:, None, :]).unsqueeze(1).float()


def time_bucket(timestamps: Tensor) -> Tensor:
    """(B, L) Unix seconds → (B, L, L) bucket of the gap between each query and each key."""
    return gap_bucket((timestamps[:, :, None] - timestamps[:, None, :]).clamp(min=0))
