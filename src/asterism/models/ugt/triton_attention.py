"""Pointwise attention on a GPU as one kernel a direction: no (B, H, L, L) tensor of scores or bias is made."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from asterism.models.ugt.buckets import TIME_BUCKETS

_BLOCK = 32


class BiasTables(NamedTuple):
    """What `RelativeBias` has learned."""

    position: Tensor  # (H, events)
    time: Tensor  # (H, buckets)
    prefix: Tensor | None  # (H, columns before the events)


@triton.jit
def _block(base, rows, dims, tokens, D: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.load(base + rows[:, None] * D + dims[None, :], (rows[:, None] < tokens) & (dims[None, :] < D), 0.0)


@triton.jit
def _product(a, b, PRECISION: tl.constexpr, WIDEN: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of two blocks, summed in fp32."""
    if WIDEN:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision=PRECISION)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _scores(  # type: ignore[no-untyped-def]
    q, k, queries, keys, position, time, when, here, tokens, places, events, prefix,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, BUCKETS: tl.constexpr,
):  # fmt: skip
    """Scores with their bias, what is visible, and the rows of both tables that the bias came from."""
    asked = tl.load(when + queries, queries < tokens, 0)
    known = tl.load(when + keys, keys < tokens, 0)
    seconds = tl.maximum(asked[:, None] - known[None, :], 0).to(tl.float32) + 1.0
    bucket = tl.minimum((seconds.to(tl.int32, bitcast=True) >> 23) - 127, BUCKETS - 1)  # the exponent: ⌊log2⌋
    apart = tl.minimum(tl.maximum(queries[:, None] - keys[None, :], 0), events - 1)
    place = tl.where(keys[None, :] < prefix, events + keys[None, :], apart)
    present = tl.load(here + keys, keys < tokens, 0) != 0
    visible = (queries[:, None] >= keys[None, :]) & present[None, :] & (queries[:, None] < tokens)
    bias = tl.load(position + place, visible, 0.0) + tl.load(time + bucket, visible, 0.0)
    return _product(q, tl.trans(k), PRECISION, WIDEN) + bias, visible, place, bucket


@triton.jit
def _attend(  # type: ignore[no-untyped-def]
    Q, K, V, POSITION, TIME, WHEN, HERE, OUT, heads, tokens, places, events, prefix, share,
    D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, BUCKETS: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    at, pair = tl.program_id(0), tl.program_id(1)
    row, head = pair // heads, pair % heads
    queries, dims = at * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDE)
    own = pair.to(tl.int64) * tokens * D
    q = _block(Q + own, queries, dims, tokens, D)
    total = tl.zeros((BLOCK, WIDE), tl.float32)
    for start in range(0, (at + 1) * BLOCK, BLOCK):
        keys = start + tl.arange(0, BLOCK)
        k, v = _block(K + own, keys, dims, tokens, D), _block(V + own, keys, dims, tokens, D)
        score, visible, _, _ = _scores(
            q, k, queries, keys, POSITION + head * places, TIME + head * BUCKETS, WHEN + row * tokens,
            HERE + row * tokens, tokens, places, events, prefix, PRECISION, WIDEN, BUCKETS,
        )  # fmt: skip
        weight = tl.where(visible, score * tl.sigmoid(score) * share, 0.0)
        total += _product(weight.to(v.dtype), v, PRECISION, WIDEN)
    mask = (queries[:, None] < tokens) & (dims[None, :] < D)
    tl.store(OUT + own + queries[:, None] * D + dims[None, :], total.to(OUT.dtype.element_ty), mask)


@triton.jit
def _slope(score, visible, share):  # type: ignore[no-untyped-def]
    """Of silu(score) · share, zero where nothing is seen."""
    gate = tl.sigmoid(score)
    return tl.where(visible, gate * (1.0 + score * (1.0 - gate)) * share, 0.0)


@triton.jit
def _of_queries(  # type: ignore[no-untyped-def]
    Q, K, V, POSITION, TIME, WHEN, HERE, GRAD, DQ, DPOSITION, DTIME, heads, tokens, places, events, prefix, share,
    D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, BUCKETS: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Gradients of the queries and of both tables; many programs add to a table, in no fixed order."""
    at, pair = tl.program_id(0), tl.program_id(1)
    row, head = pair // heads, pair % heads
    queries, dims = at * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDE)
    own = pair.to(tl.int64) * tokens * D
    q, grad = _block(Q + own, queries, dims, tokens, D), _block(GRAD + own, queries, dims, tokens, D)
    total = tl.zeros((BLOCK, WIDE), tl.float32)
    for start in range(0, (at + 1) * BLOCK, BLOCK):
        keys = start + tl.arange(0, BLOCK)
        k, v = _block(K + own, keys, dims, tokens, D), _block(V + own, keys, dims, tokens, D)
        score, visible, place, bucket = _scores(
            q, k, queries, keys, POSITION + head * places, TIME + head * BUCKETS, WHEN + row * tokens,
            HERE + row * tokens, tokens, places, events, prefix, PRECISION, WIDEN, BUCKETS,
        )  # fmt: skip
        slope = _product(grad, tl.trans(v), PRECISION, WIDEN) * _slope(score, visible, share)
        total += _product(slope.to(k.dtype), k, PRECISION, WIDEN)
        tl.atomic_add(DPOSITION + head * places + place, slope, visible)
        for one in range(BUCKETS):  # few addresses for all pairs: summed here, so that programs rarely meet
            tl.atomic_add(DTIME + head * BUCKETS + one, tl.sum(tl.where(bucket == one, slope, 0.0)))
    mask = (queries[:, None] < tokens) & (dims[None, :] < D)
    tl.store(DQ + own + queries[:, None] * D + dims[None, :], total.to(DQ.dtype.element_ty), mask)


@triton.jit
def _of_keys(  # type: ignore[no-untyped-def]
    Q, K, V, POSITION, TIME, WHEN, HERE, GRAD, DK, DV, heads, tokens, places, events, prefix, share,
    D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, BUCKETS: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    at, pair = tl.program_id(0), tl.program_id(1)
    row, head = pair // heads, pair % heads
    keys, dims = at * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDE)
    own = pair.to(tl.int64) * tokens * D
    k, v = _block(K + own, keys, dims, tokens, D), _block(V + own, keys, dims, tokens, D)
    of_keys, of_values = tl.zeros((BLOCK, WIDE), tl.float32), tl.zeros((BLOCK, WIDE), tl.float32)
    for start in range(at * BLOCK, tokens, BLOCK):
        queries = start + tl.arange(0, BLOCK)
        q, grad = _block(Q + own, queries, dims, tokens, D), _block(GRAD + own, queries, dims, tokens, D)
        score, visible, _, _ = _scores(
            q, k, queries, keys, POSITION + head * places, TIME + head * BUCKETS, WHEN + row * tokens,
            HERE + row * tokens, tokens, places, events, prefix, PRECISION, WIDEN, BUCKETS,
        )  # fmt: skip
        weight = tl.where(visible, score * tl.sigmoid(score) * share, 0.0)
        of_values += _product(tl.trans(weight.to(grad.dtype)), grad, PRECISION, WIDEN)
        slope = _product(grad, tl.trans(v), PRECISION, WIDEN) * _slope(score, visible, share)
        of_keys += _product(tl.trans(slope.to(q.dtype)), q, PRECISION, WIDEN)
    mask = (keys[:, None] < tokens) & (dims[None, :] < D)
    place = own + keys[:, None] * D + dims[None, :]
    tl.store(DK + place, of_keys.to(DK.dtype.element_ty), mask)
    tl.store(DV + place, of_values.to(DV.dtype.element_ty), mask)


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: BiasTables, timestamps: Tensor, present: Tensor, scale: float
) -> Tensor:
    """As `pointwise_attention` with the bias of `RelativeBias` and causal visibility, which are made on the way.

    `q`, `k`, `v` (B, H, L, D/H) of one type; `timestamps` (B, L) long; `present` (B, L) bool, where there is a token.
    The gradients of the tables are sums in no fixed order, so two runs on a GPU may differ in their last bits.
    """
    shape = (bias.position.shape[1], 0 if bias.prefix is None else bias.prefix.shape[1])
    table = bias.position if bias.prefix is None else torch.cat([bias.position, bias.prefix], dim=1)
    found: Tensor = _FusedAttention.apply(q, k, v, table, bias.time, timestamps, present, scale, *shape)  # type: ignore[no-untyped-call]
    return found


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        position: Tensor,
        time: Tensor,
        timestamps: Tensor,
        present: Tensor,
        scale: float,
        events: int,
        prefix: int,
    ) -> Tensor:
        read = tuple(one.contiguous() for one in (q, k, v, position, time, timestamps, present.to(torch.int8)))
        out = torch.empty_like(read[2])
        ctx.save_for_backward(*read)
        ctx.numbers = (q.shape[1], q.shape[2], position.shape[1], events, prefix, 1.0 / scale)
        _attend[_grid(q)](*read, out, *ctx.numbers, **_constants(q))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        read = ctx.saved_tensors
        q, k, v, position, time = read[:5]
        gradient = gradient.contiguous()
        of_q, of_k, of_v = (torch.empty_like(one) for one in (q, k, v))
        of_position, of_time = torch.zeros_like(position), torch.zeros_like(time)
        of_queries = (of_q, of_position, of_time)
        _of_queries[_grid(q)](*read, gradient, *of_queries, *ctx.numbers, **_constants(q))
        _of_keys[_grid(q)](*read, gradient, of_k, of_v, *ctx.numbers, **_constants(q))
        return of_q, of_k, of_v, of_position, of_time, None, None, None, None, None


def _grid(q: Tensor) -> tuple[int, int]:
    rows, heads, tokens, _ = q.shape
    return triton.cdiv(tokens, _BLOCK), rows * heads


def _constants(q: Tensor) -> dict[str, Any]:
    exact = q.dtype is torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    bits_alone = triton.knobs.runtime.interpret and q.dtype is torch.bfloat16  # the interpreter multiplies bf16 as ints
    return {
        "D": q.shape[-1],
        "WIDE": max(16, triton.next_power_of_2(q.shape[-1])),  # the least that a product of blocks takes
        "BLOCK": _BLOCK,
        "BUCKETS": TIME_BUCKETS,
        "PRECISION": "ieee" if exact else "tf32",
        "WIDEN": bits_alone,
    }
