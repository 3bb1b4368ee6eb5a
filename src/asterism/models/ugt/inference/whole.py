"""All layers in one call of compiled code (`whole.cpp`, `advance.cpp`), where the processor has tiles of bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, addressof, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from asterism.core.native import Function, function
from asterism.models.ugt.attention import PointwiseAttentionBlock
from asterism.models.ugt.buckets import TIME_BUCKETS
from asterism.models.ugt.group_norm import GroupLayerNorm
from asterism.models.ugt.inference.bias import bias_tables
from asterism.models.ugt.inference.linear import Precision
from asterism.models.ugt.inference.memory import Memory
from asterism.models.ugt.model import UGT

_SOURCE: Final = Path(__file__).with_name("whole.cpp")
_OF_NEW_EVENTS: Final = Path(__file__).with_name("advance.cpp")
_STEP: Final = 32  # of widths
_POINTERS: Final = ("expand", "expand_bias", "contract", "contract_bias", "tables")


class _Norm(Structure):
    _fields_ = (("scale", c_void_p), ("shift", c_void_p), ("epsilon", c_float))


class _Layer(Structure):
    _fields_ = (*((name, c_void_p) for name in _POINTERS), ("before", _Norm), ("after", _Norm))


class _Encoder(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("items", "layers", "heads", "depth", "hidden", "buckets")),
        ("layer", c_void_p),
        ("inputs", c_void_p),
    )


class Keeping(NamedTuple):
    """Where rows (B,) are to be remembered once they are read."""

    memory: Memory
    slots: Tensor  # (B,) long, different ones; -1 for a row that is not
    prints: Tensor  # (B, T) long, right-aligned, of the events


class _Functions(NamedTuple):
    pack_tiles: Function
    encode: Function
    advance: Function


@cache
def _functions() -> _Functions | None:
    has_tiles = function(_SOURCE, "has_tiles", (), c_int64)
    pack = function(_SOURCE, "pack_tiles", (c_void_p, c_int64, c_int64, c_void_p))
    encode = function(_SOURCE, "encode", (c_void_p, c_int64, c_int64, *[c_void_p] * 7), c_int64)
    advance = function(_OF_NEW_EVENTS, "advance", (c_void_p, c_int64, *[c_void_p] * 6), c_int64)
    if has_tiles is None or pack is None or encode is None or advance is None or not has_tiles():
        return None
    return _Functions(pack, encode, advance)


class WholeEncoder:
    """A stack of layers in bf16 over events alone: no tokens before them, no groups, no feed-forward layers."""

    def __init__(self, blocks: Sequence[PointwiseAttentionBlock], inputs: Tensor, functions: _Functions) -> None:
        """`inputs` (N, D) fp32, the items as events."""
        self._functions = functions
        self._held: list[Tensor] = []
        self._width = inputs.shape[1]
        self._layers = (_Layer * len(blocks))(*map(self._layer, blocks))
        hidden = blocks[0].max_events * TIME_BUCKETS
        heads = blocks[0].heads
        at = (addressof(self._layers), self._hold(inputs))
        self._encoder = _Encoder(len(inputs), len(blocks), heads, self._width // heads, hidden, TIME_BUCKETS, *at)

    @classmethod
    def of(cls, model: UGT, inputs: Tensor, precision: Precision) -> WholeEncoder | None:
        """None where the model, the precision or the processor is another."""
        config = model.shape.model
        blocks = [one for one in model.blocks if isinstance(one, PointwiseAttentionBlock)]
        plain = not (model.prefix.columns or model.feed_forwards or config.group_norm)
        if precision != "bf16" or not plain or config.width % _STEP or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return None
        functions = _functions()
        return None if functions is None else cls(blocks, inputs, functions)

    def newest(
        self, items: Tensor, vectors: Tensor | None, timestamps: Tensor, keeping: Keeping | None = None
    ) -> Tensor:
        """Events (B, T), or their vectors (B, T, D) → (B, D) of the newest; rows with a slot and events are kept there.

        Raises `IndexError` on an item that the model does not know, and then keeps nobody.
        """
        items, timestamps = items.contiguous(), timestamps.contiguous()
        vectors = None if vectors is None else vectors.contiguous()
        states = torch.empty(len(items), self._width)
        failed = self._functions.encode(
            addressof(self._encoder),
            *items.shape,
            items.data_ptr(),
            None if vectors is None else vectors.data_ptr(),
            timestamps.data_ptr(),
            states.data_ptr(),
            *((None, None, None) if keeping is None else self._at(keeping)),
        )
        if failed:
            raise self._unknown()
        return states

    def advance(
        self, items: Tensor, vectors: Tensor | None, timestamps: Tensor, prints: Tensor, memory: Memory, slots: Tensor
    ) -> None:
        """Take one new event (B,) each, or its vector (B, D), into the rings in `slots` (B,), which differ.

        Raises `IndexError` on an item that the model does not know, and then changes nothing.
        """
        events = [one.contiguous() for one in (timestamps, prints)]
        items, vectors = items.contiguous(), None if vectors is None else vectors.contiguous()
        failed = self._functions.advance(
            addressof(self._encoder),
            len(items),
            items.data_ptr(),
            None if vectors is None else vectors.data_ptr(),
            *(one.data_ptr() for one in events),
            memory.rings,
            slots.data_ptr(),
        )
        if failed:
            raise self._unknown()

    def _at(self, keeping: Keeping) -> tuple[int, int, int]:
        assert keeping.prints.is_contiguous()
        return keeping.memory.rings, keeping.slots.data_ptr(), keeping.prints.data_ptr()

    def _unknown(self) -> IndexError:
        return IndexError(f"an event's item is none of the {self._encoder.items} that the model knows")

    def _layer(self, block: PointwiseAttentionBlock) -> _Layer:
        return _Layer(
            *self._product(block.expand),
            *self._product(block.contract),
            self._hold(bias_tables(block.bias)),
            self._norm(block.norm, 1.0),
            self._norm(block.norm_attended, float(block.max_tokens**2)),
        )

    def _product(self, linear: nn.Linear) -> tuple[int, int]:
        weight = linear.weight.detach().bfloat16().contiguous()
        tiles = torch.empty_like(weight)
        self._functions.pack_tiles(weight.data_ptr(), *weight.shape, tiles.data_ptr())
        return self._hold(tiles), self._hold(linear.bias)

    def _norm(self, norm: nn.LayerNorm | GroupLayerNorm, factor: float) -> _Norm:
        """The constant that attention is divided by goes into the norm after it, as in `InferenceBlock`."""
        assert isinstance(norm, nn.LayerNorm)
        return _Norm(self._hold(norm.weight), self._hold(norm.bias), norm.eps * factor)

    def _hold(self, tensor: Tensor) -> int:
        tensor = tensor.detach()
        self._held.append((tensor if tensor.dtype == torch.bfloat16 else tensor.float()).contiguous())
        return self._held[-1].data_ptr()
