"""The relative bias of attention as rows of one table, so that a layer looks it up once a pair of tokens."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from asterism.models.ugt.attention import RelativeBias
from asterism.models.ugt.buckets import TIME_BUCKETS

#: What a pair that may not see each other scores: SiLU of it is zero in every precision, and never NaN.
HIDDEN: Final = -1e4
_LONGEST_GAP: Final = 2**31 - 1
_MANTISSA_BITS: Final = 23
_EXPONENT_OF_ONE: Final = 127


def bias_tables(bias: RelativeBias) -> Tensor:
    """(H, places · buckets + 1) the bias at place · TIME_BUCKETS + bucket, and `HIDDEN` at the end.

    A place is a distance between events, or `max_events` + the column of a key before the events.
    """
    position = bias.position if bias.prefix is None else torch.cat([bias.position, bias.prefix], dim=1)
    table = (position[:, :, None] + bias.time[:, None, :]).flatten(1)
    return torch.cat([table, table.new_full((len(table), 1), HIDDEN)], dim=1).detach()


class BiasRows:
    """Which row of the tables a query and a key take; the same for all layers."""

    def __init__(self, max_events: int, prefix: int) -> None:
        self._max_events = max_events
        self._prefix = prefix
        self._hidden = (max_events + prefix) * TIME_BUCKETS
        self._places: dict[int, Tensor] = {}

    def of_pairs(self, timestamps: Tensor, present: Tensor) -> Tensor:
        """(b, l) Unix seconds and where there is a token → (b, l, l) int32 rows of query (second axis) and key.

        Moments are read to 68 years before a row's latest one.
        """
        ages = _ages(timestamps, present)
        buckets = _buckets(ages[:, None, :] - ages[:, :, None])
        rows = buckets.add_(self._place_rows(timestamps.shape[1]))
        return rows.add_(self._unseen(present)[:, None, :]).clamp_(max=self._hidden)

    def of_newest(self, ages: Tensor, distances: Tensor, seen: Tensor) -> Tensor:
        """What the newest event asks: gaps in seconds, distances in events and which keys it sees, each (b, t)."""
        rows = distances.int() * TIME_BUCKETS + _buckets(ages.clamp(max=_LONGEST_GAP).int())
        return rows.masked_fill_(~seen, self._hidden)

    def _place_rows(self, tokens: int) -> Tensor:
        if tokens not in self._places:
            order = torch.arange(tokens)
            place = order[:, None] - order[None, :]
            hidden = place < 0
            place = torch.where(order < self._prefix, self._max_events + order, place)
            self._places[tokens] = (place * TIME_BUCKETS).masked_fill(hidden, self._hidden).int()
        return self._places[tokens]

    def _unseen(self, present: Tensor) -> Tensor:
        return (~present).int() * self._hidden


def _ages(timestamps: Tensor, present: Tensor) -> Tensor:
    """(b, l) int32 seconds before the row's latest moment."""
    moments = timestamps.masked_fill(~present, torch.iinfo(torch.long).min)
    ages = moments.amax(dim=1, keepdim=True) - timestamps
    return ages.clamp_(0, _LONGEST_GAP).int()


def _buckets(gaps: Tensor) -> Tensor:
    """`buckets.gap_bucket` of int32 seconds, gaps below zero taken as none: the exponent's bits of gap + 1."""
    bits = (gaps.clamp_(min=0).float() + 1.0).view(torch.int32)
    return bits.bitwise_right_shift_(_MANTISSA_BITS).sub_(_EXPONENT_OF_ONE)
