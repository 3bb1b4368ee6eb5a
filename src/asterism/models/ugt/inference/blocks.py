"""A layer of UGT as requests need it: all tokens at once, or the newest one alone against kept keys and values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.ugt.attention import PointwiseAttentionBlock
from asterism.models.ugt.experts import FeedForward
from asterism.models.ugt.group_norm import GroupLayerNorm
from asterism.models.ugt.inference.bias import bias_tables
from asterism.models.ugt.inference.fused import FusedAttention, normalise
from asterism.models.ugt.inference.linear import Precision, activation_type, packed


class Seen(NamedTuple):
    """What a layer made of all tokens."""

    states: Tensor  # (b, l, D) fp32
    values_and_keys: Tensor | None  # (b, l, 2 D), where they are to be kept


class InferenceBlock:
    """`PointwiseAttentionBlock`, and the feed-forward layer after it, without dropout and without gradients.

    States are changed in place.

    Norms, their sums and the residual stream are fp32; what is multiplied by matrices is in the precision's type.
    The constant that attention is divided by goes into the norm after it: norm(x / T; ε) = norm(x; ε T²).
    """

    def __init__(
        self, block: PointwiseAttentionBlock, feed_forward: FeedForward | None, groups: Tensor, precision: Precision
    ) -> None:
        """`groups` (prefix,) long, the groups of the columns before the events."""
        self._type = activation_type(precision)
        self._heads = block.heads
        self._width = block.contract.out_features
        self._norm = _Norm(block.norm, groups, self._type)
        weight, bias = block.expand.weight, block.expand.bias
        parts = torch.arange(4 * self._width).view(4, -1)  # gate, values, queries, keys
        asking, answering = parts[[0, 2]].flatten(), parts[[1, 3]].flatten()
        self._expand = packed(weight, bias, precision)
        self._ask = packed(weight[asking], bias[asking], precision)
        self._answer = packed(weight[answering], bias[answering], precision)
        self._contract = packed(block.contract.weight, block.contract.bias, precision)
        tables = bias_tables(block.bias)
        self._tables = tables.to(self._type)
        self._rows_of_tables = self._tables.T.contiguous()
        norm = block.norm_attended
        self._after = (norm.weight.detach().to(self._type), norm.bias.detach().to(self._type))
        self._epsilon = norm.eps * block.max_tokens**2
        self._fused: FusedAttention | None = None
        if FusedAttention.there_is(self._type, self._width):
            scale, shift = norm.weight.detach().float(), norm.bias.detach().float()
            self._fused = FusedAttention(self._type, tables.float(), scale, shift, self._epsilon, self._heads)
        self._feed = None if feed_forward is None else _Feed(feed_forward, groups, precision)

    @property
    def is_fused(self) -> bool:
        """Whether attention is one pass of compiled code."""
        return self._fused is not None

    def every(self, states: Tensor, rows: Tensor, keep: bool) -> Seen:
        """(b, l, D) states and the bias rows (b, l, l) of their pairs → the same tokens one layer on."""
        batch, tokens, width = states.shape
        expanded = self._expand(self._norm.typed(states))
        if self._fused is not None:
            made, kept = self._fused.every(expanded, rows, keep)
            return Seen(self._contracted(states, made), kept)
        expanded = functional.silu(expanded, inplace=True)
        split = expanded.view(batch, tokens, 4, self._heads, -1)
        value, query, key = split[:, :, 1:].permute(2, 3, 0, 1, 4).reshape(3, self._heads * batch, tokens, -1).unbind()
        scores = torch.baddbmm(self._bias(rows), query, key.transpose(1, 2))
        heads = torch.bmm(functional.silu(scores, inplace=True), value)
        attended = heads.view(self._heads, batch, tokens, -1).permute(1, 2, 0, 3).reshape(batch, tokens, width)
        kept = split[:, :, 1::2].reshape(batch, tokens, -1) if keep else None
        return Seen(self._onward(states, attended, expanded[..., :width]), kept)

    def newest(self, states: Tensor, rows: Tensor, keep: bool) -> Seen:
        """The same, but only the last token goes on, as (b, 1, D): `rows` (b, l) are those of its pairs."""
        normed = self._norm.typed(states)
        answers, asked = self._answer(normed), self._ask(normed[:, -1])
        if self._fused is not None:
            attended, kept = self._fused.newest(asked, answers, rows, keep)
            return Seen(self._contracted(states[:, -1].contiguous(), attended)[:, None], kept)
        functional.silu(answers, inplace=True)
        made = self._read(states[:, -1], functional.silu(asked, inplace=True), answers, rows)
        return Seen(made[:, None], answers if keep else None)

    def advance(self, states: Tensor, memory: Tensor, slots: Tensor, places: Tensor, rows: Tensor) -> Tensor:
        """(b, D) newest events → one layer on, where each reads its slot (b,) of a memory (capacity, t, 2 D).

        Their own values and keys are written to their places (b,) there; `rows` (b, t) are those of their pairs.
        """
        expanded = self._expand(self._norm.typed(states))
        if self._fused is not None:
            return self._contracted(states, self._fused.advance(expanded, memory, slots, places, rows))
        parts = functional.silu(expanded, inplace=True).view(len(states), 4, -1)
        memory[slots, places] = parts[:, 1::2].reshape(len(states), -1)
        return self._read(states, parts[:, ::2].reshape(len(states), -1), memory.index_select(0, slots), rows)

    def _read(self, states: Tensor, asked: Tensor, answers: Tensor, rows: Tensor) -> Tensor:
        """(b, D) states that ask (b, 2 D) the kept values and keys (b, t, 2 D) → (b, D) states one layer on.

        Each head's query stands in a column of its own, zero elsewhere, so that keys are read where they lie.
        """
        batch, width = states.shape
        gate, query = asked[:, :width], asked[:, width:]
        depth = width // self._heads
        columns = query.new_zeros(batch, self._heads, self._heads, depth)
        columns.diagonal(dim1=1, dim2=2).copy_(query.view(batch, self._heads, depth).transpose(1, 2))
        bias = self._rows_of_tables[rows]  # (b, t, H)
        columns = columns.view(batch, self._heads, width).transpose(1, 2)
        scores = torch.baddbmm(bias, answers[..., width:], columns)
        heads = torch.bmm(functional.silu(scores, inplace=True).transpose(1, 2), answers[..., :width])
        own = heads.view(batch, self._heads, self._heads, depth).diagonal(dim1=1, dim2=2)
        return self._onward(states, own.transpose(1, 2).reshape(batch, width), gate)

    def _bias(self, rows: Tensor) -> Tensor:
        batch, tokens, _ = rows.shape
        flat = rows.view(-1)
        found = torch.empty(self._heads, flat.numel(), dtype=self._type)
        for head, table in enumerate(self._tables):
            torch.index_select(table, 0, flat, out=found[head])
        return found.view(self._heads * batch, tokens, tokens)

    def _onward(self, states: Tensor, attended: Tensor, gate: Tensor) -> Tensor:
        """Of whole rows (b, l, D), or of newest events (b, D)."""
        scale, shift = self._after
        normed = functional.layer_norm(attended, attended.shape[-1:], scale, shift, self._epsilon)
        return self._contracted(states, normed.mul_(gate))

    def _contracted(self, states: Tensor, gated: Tensor) -> Tensor:
        states += self._contract(gated)
        return states if self._feed is None else self._feed(states)


class _Feed:
    """The feed-forward layer. One network is packed; a mixture stays fp32, where rounding cannot change its routes."""

    def __init__(self, layer: FeedForward, groups: Tensor, precision: Precision) -> None:
        self._type = activation_type(precision)
        self._norm = _Norm(layer.norm, groups, self._type)
        self._mixture = layer.mixture
        self._inner = self._outer = None
        if layer.network is not None:
            inner, outer = layer.network[0], layer.network[-1]
            assert isinstance(inner, nn.Linear)
            assert isinstance(outer, nn.Linear)
            self._inner = packed(inner.weight, inner.bias, precision)
            self._outer = packed(outer.weight, outer.bias, precision)

    def __call__(self, states: Tensor) -> Tensor:
        if self._mixture is not None:
            return states.add_(self._mixture(self._norm(states).flatten(0, -2)).view_as(states))
        assert self._inner is not None
        assert self._outer is not None
        hidden = functional.silu(self._inner(self._norm.typed(states)), inplace=True)
        return states.add_(self._outer(hidden))


class _Norm:
    """The layer norm of tokens whose groups follow from their columns."""

    def __init__(self, norm: nn.LayerNorm | GroupLayerNorm, groups: Tensor, kind: torch.dtype) -> None:
        """`kind`, the type of activations."""
        self._prefix: tuple[Tensor, Tensor] | None = None
        if isinstance(norm, GroupLayerNorm):
            self._scale, self._shift, self._epsilon = norm.scale[0].detach(), norm.shift[0].detach(), 1e-5
            if len(groups):
                self._prefix = norm.scale[groups].detach(), norm.shift[groups].detach()
        else:
            self._scale, self._shift, self._epsilon = norm.weight.detach(), norm.bias.detach(), norm.eps
        self._type = kind
        self._is_fused = FusedAttention.there_is(kind, len(self._scale))

    def __call__(self, states: Tensor) -> Tensor:
        """(b, l, D) whole rows, prefix first, or (b, D) events → the same in fp32."""
        return self._with_prefix(
            states, functional.layer_norm(states, states.shape[-1:], self._scale, self._shift, self._epsilon)
        )

    def typed(self, states: Tensor) -> Tensor:
        """The same in the type of activations."""
        if not self._is_fused:
            return self(states).to(self._type)
        return self._with_prefix(states, normalise(states, self._scale, self._shift, self._epsilon, self._type))

    def _with_prefix(self, states: Tensor, normed: Tensor) -> Tensor:
        if self._prefix is not None and states.dim() == 3:
            scale, shift = self._prefix
            first = functional.layer_norm(states[:, : len(scale)], states.shape[-1:], eps=self._epsilon)
            normed[:, : len(scale)] = first * scale + shift
        return normed
