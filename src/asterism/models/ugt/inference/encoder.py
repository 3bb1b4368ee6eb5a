"""Histories in, the state after the newest event out: what a request needs of UGT, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from asterism.models.histories import HistoryBatch
from asterism.models.ugt.attention import PointwiseAttentionBlock
from asterism.models.ugt.experts import FeedForward
from asterism.models.ugt.inference.bias import BiasRows
from asterism.models.ugt.inference.blocks import InferenceBlock
from asterism.models.ugt.inference.linear import Precision, activation_type
from asterism.models.ugt.inference.whole import Keeping, WholeEncoder
from asterism.models.ugt.model import UGT

#: Positions that a batch must save by being split by length; a further call of all layers costs about as much.
_WORTH_SPLITTING: Final = 256


class Rows(NamedTuple):
    """Tokens of a batch as one dense block; the prefix comes first, and the newest event stands last."""

    states: Tensor  # (b, l, D) fp32, zero where there is none
    timestamps: Tensor  # (b, l) long, Unix seconds
    present: Tensor  # (b, l) bool


class Encoded(NamedTuple):
    """What was made of histories."""

    states: Tensor  # (B, D) after the blocks and before the last norm; of rows without events it means nothing
    kept: list[Tensor]  # by layer, (B, T, 2 D) values and keys; empty where they were not asked for


class InferenceEncoder:
    """Encodes as `UGT.encode` does; the model must not change afterwards.

    The last layer makes keys and values of all tokens, and goes on with the newest alone. Rows of unequal length are
    worked on in groups where that saves more than it costs.
    """

    def __init__(self, model: UGT, precision: Precision) -> None:
        config = model.shape.model
        self.model = model
        self.type = activation_type(precision)
        self.max_events = config.max_events
        self.prefix = model.prefix.columns
        self.blocks = list(_blocks(model, precision))
        self.bias_rows = BiasRows(config.max_events, self.prefix)
        with torch.no_grad():
            vectors = model.items.all()
            self._inputs = vectors if model.seen is None else vectors + model.seen.weight
            #: Whether an event is its item's vector and no more.
            self.is_plain = not (self.prefix or model.events.action or model.events.context or model.events.norm)
            self._whole = WholeEncoder.of(model, self._inputs, precision)
            self._directions = None if model.pooling is None else functional.normalize(vectors, dim=-1)

    @property
    def whole(self) -> WholeEncoder | None:
        """All layers as one call of compiled code, where there is one."""
        return self._whole

    def work_by_layer(self) -> None:
        """Leave that call alone from now on."""
        self._whole = None

    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, S) the state after the newest event; of a user without events, the start state."""
        return self.finish(histories, self.newest(histories))

    def newest(self, histories: HistoryBatch, keeping: Keeping | None = None) -> Tensor:
        """(B, D) what the blocks make of the newest event of each row; `keeping` needs all layers in one call."""
        if self._whole is None:
            assert keeping is None
            return self.blocks_of(histories, keep=False).states
        vectors = None if self.is_plain else self.event_tokens(histories)
        return self._whole.newest(histories.items, vectors, histories.timestamps, keeping)

    def blocks_of(self, histories: HistoryBatch, *, keep: bool) -> Encoded:
        """What the blocks make of the newest event of each row, one layer after the other."""
        rows = self._rows(histories)
        if keep or len(rows.states) == 1:
            return self._through(rows, keep)
        groups = list(_alike(self._lengths(rows), self.prefix))
        if len(groups) == 1:
            return self._through(rows, keep)
        states = rows.states.new_empty(len(rows.states), rows.states.shape[-1])
        for numbers, longest in groups:
            states[numbers] = self._through(self._part(rows, numbers, longest), keep).states
        return Encoded(states, [])

    def finish(self, histories: HistoryBatch, newest: Tensor) -> Tensor:
        """(B, D) what the blocks made of the newest events → (B, S) states."""
        known = histories.items[:, -1:] >= 0
        states: Tensor = self.model.norm(newest)
        if self.model.pooling is not None:
            states = torch.cat([states, self._pooled(histories)], dim=-1)
        return states if bool(known.all()) else torch.where(known, states, self.model.start_states(histories))

    def event_tokens(self, histories: HistoryBatch) -> Tensor:
        """(B, T, D) the events' vectors as the blocks read them, zero where padded."""
        mask = histories.mask
        vectors = self._inputs.index_select(0, histories.items.clamp(min=0).flatten())
        if not self.is_plain:
            flat = mask.flatten()
            made = self.model.events(vectors[flat], histories)
            vectors = torch.zeros_like(vectors)
            vectors[flat] = made
        elif not bool(mask.all()):
            vectors *= mask.view(-1, 1)
        return vectors.view(*mask.shape, -1)

    def _rows(self, histories: HistoryBatch) -> Rows:
        if not self.prefix:
            return Rows(self.event_tokens(histories), histories.timestamps, histories.mask)
        mask = histories.mask
        events = self.model.events(self._inputs[histories.items[mask]], histories)
        tokens = self.model.prefix(events, self.model.start, histories, self.model.items, self.model.seen)
        packing = tokens.packing
        dense = events.new_zeros(packing.present.numel(), events.shape[-1])
        dense[packing.places] = tokens.states
        return Rows(dense.view(*packing.present.shape, -1), packing.timestamps, packing.present)

    def _through(self, rows: Rows, keep: bool) -> Encoded:
        bias = self.bias_rows.of_pairs(rows.timestamps, rows.present)
        states, kept = rows.states, []
        for block in self.blocks[:-1]:
            seen = block.every(states, bias, keep)
            states = seen.states
            kept.append(seen.values_and_keys)
        last = self.blocks[-1].newest(states, bias[:, -1].contiguous(), keep)
        kept.append(last.values_and_keys)
        return Encoded(last.states[:, 0], [one for one in kept if one is not None])

    def _lengths(self, rows: Rows) -> Tensor:
        """(b,) events of each row, one where there is none."""
        events = rows.present[:, self.prefix :]
        lengths = events.shape[1] - events.int().argmax(dim=1)
        return lengths.masked_fill(~events[:, -1], 1)

    def _part(self, rows: Rows, numbers: Tensor, longest: int) -> Rows:
        """Some of the rows, with their prefix and so many events."""
        order = torch.arange(rows.present.shape[1])
        block = (numbers[:, None], torch.cat([order[: self.prefix], order[len(order) - longest :]]))
        return Rows(rows.states[block], rows.timestamps[block], rows.present[block])

    def _pooled(self, histories: HistoryBatch) -> Tensor:
        assert self.model.pooling is not None
        assert self._directions is not None
        mask = histories.mask
        ages = torch.arange(mask.shape[1]).flip(0)
        scores = self.model.pooling.scores.detach()[ages].expand_as(mask).masked_fill(~mask, -torch.inf)
        weights = torch.softmax(scores, dim=-1).nan_to_num(0.0)
        directions = self._directions[histories.items.clamp(min=0)]
        return self.model.pooling.gain.detach() * torch.einsum("bt,btd->bd", weights, directions)


def _blocks(model: UGT, precision: Precision) -> Iterator[InferenceBlock]:
    groups = _prefix_groups(model)
    for depth, block in enumerate(model.blocks):
        feed_forward = model.feed_forwards[depth] if model.feed_forwards else None
        assert isinstance(block, PointwiseAttentionBlock)
        assert feed_forward is None or isinstance(feed_forward, FeedForward)
        yield InferenceBlock(block, feed_forward, groups, precision)


def _alike(lengths: Tensor, prefix: int) -> Iterator[tuple[Tensor, int]]:
    """Rows by length, cut where it saves enough positions; longest groups first."""
    order = lengths.argsort(descending=True)
    found = lengths[order].tolist()
    start = 0
    for place in range(1, len(found)):
        saved = (len(found) - place) * (found[start] - found[place])
        if saved >= _WORTH_SPLITTING and 2 * (found[place] + prefix) <= found[start] + prefix:
            yield order[start:place], found[start]
            start = place
    yield order[start:], found[start]


def _prefix_groups(model: UGT) -> Tensor:
    """(prefix,) long, the groups of the columns before the events."""
    users = 0 if model.prefix.user is None else 1
    windows = model.prefix.columns - users
    return torch.tensor([1] * users + [model.prefix.groups - 1] * windows, dtype=torch.long)
