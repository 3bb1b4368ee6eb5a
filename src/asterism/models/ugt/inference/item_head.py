"""The item head asked about candidates, by compiled code (`item_head.cpp`)."""

from __future__ import annotations

from ctypes import Structure, addressof, c_float, c_int64, c_void_p
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from asterism.core.native import function
from asterism.models.ugt.model import UGT

_SOURCE: Final = Path(__file__).with_name("item_head.cpp")
_STEP: Final = 16  # widths that are no multiple of this are left to torch


class _Head(Structure):
    _fields_ = (
        ("width", c_int64),
        ("items", c_int64),
        ("is_pooled", c_int64),
        ("temperature", c_float),
        *((name, c_void_p) for name in ("turn", "shift", "directions")),
    )


class ItemHead:
    """`UGT.item_scores` for candidates; the model must not change afterwards."""

    def __init__(self, model: UGT) -> None:
        config = model.shape.model
        width = config.width
        self._model = model
        self._score = None
        if width % _STEP == 0:
            self._score = function(_SOURCE, "item_scores", (c_void_p, c_int64, c_int64, *[c_void_p] * 3), c_int64)
        self._width = width if model.pooling is None else 2 * width
        with torch.no_grad():
            held = (model.turn.weight, model.turn.bias, model.item_directions())
        self._held = [one.detach().float().contiguous() for one in held]
        at = (one.data_ptr() for one in self._held)
        self._head = _Head(width, len(held[2]), int(model.pooling is not None), model.shape.temperature, *at)

    def scores(self, states: Tensor, items: Tensor) -> Tensor:
        """(B, S), (B, C) long → (B, C); raises `IndexError` on an item that the model does not know."""
        if self._score is None:
            return self._model.item_scores(states, items)
        states, items = states.float().contiguous(), items.contiguous()
        assert states.shape == (len(items), self._width)
        found = torch.empty(items.shape)
        at = (one.data_ptr() for one in (states, items, found))
        if self._score(addressof(self._head), *items.shape, *at):
            raise IndexError(f"an item is none of the {self._head.items} that the model knows")
        return found
