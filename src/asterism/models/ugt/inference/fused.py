"""Attention between its two products in one pass of compiled code (`attention.cpp`)."""

from __future__ import annotations

from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor

from asterism.core.native import Function, function

_SOURCE: Final = Path(__file__).with_name("attention.cpp")
#: Widths that are no multiple of this are left to torch, and so are types other than these.
_STEP: Final = 16
_NAMES: Final = {torch.float32: "fp32", torch.bfloat16: "bf16"}
_SHAPE: Final = (c_void_p, *[c_int64] * 5, c_void_p, c_void_p, c_float)


class FusedAttention:
    """SiLU, scores with their bias, SiLU, values, norm and gate of one layer, in fp32 whatever goes in and out."""

    def __init__(
        self, kind: torch.dtype, tables: Tensor, scale: Tensor, shift: Tensor, epsilon: float, heads: int
    ) -> None:
        """`tables` (H, n) of the bias, `scale` and `shift` (D,) of the norm, all fp32."""
        self._tables, self._scale, self._shift = tables.contiguous(), scale.contiguous(), shift.contiguous()
        self._epsilon, self._heads = epsilon, heads
        found = _functions(kind)
        assert found is not None
        self._functions = found

    @staticmethod
    def there_is(kind: torch.dtype, width: int) -> bool:
        """Whether there is one for activations of that type and width."""
        return width % _STEP == 0 and _functions(kind) is not None

    def every(self, expanded: Tensor, rows: Tensor, keep: bool) -> tuple[Tensor, Tensor | None]:
        """(b, l, 4 D) gates, values, queries and keys, rows (b, l, l) → (b, l, D), (b, l, 2 D) values and keys."""
        batch, tokens, width = *expanded.shape[:2], expanded.shape[2] // 4
        out = expanded.new_empty(batch, tokens, width)
        kept = expanded.new_empty(batch, tokens, 2 * width) if keep else None
        shape = self._shape(batch, tokens, width)
        self._functions.every(_at(expanded), _at(rows), *shape, _at(out), None if kept is None else _at(kept))
        return out, kept

    def newest(self, asked: Tensor, answers: Tensor, rows: Tensor, keep: bool) -> tuple[Tensor, Tensor | None]:
        """(b, 2 D) gates and queries, (b, l, 2 D) values and keys, rows (b, l) → (b, D), and what is kept."""
        batch, tokens, width = *answers.shape[:2], answers.shape[2] // 2
        out = asked.new_empty(batch, width)
        kept = torch.empty_like(answers) if keep else None
        shape = self._shape(batch, tokens, width)
        self._functions.newest(
            _at(asked), _at(answers), _at(rows), *shape, _at(out), None if kept is None else _at(kept)
        )
        return out, kept

    def advance(self, expanded: Tensor, memory: Tensor, slots: Tensor, places: Tensor, rows: Tensor) -> Tensor:
        """Write the values and keys of events (b, 4 D) to places (b,) of slots (b,) of a memory (capacity, l, 2 D).

        Then let each event read its own slot: rows (b, l) → (b, D).
        """
        batch, tokens, width = len(expanded), *memory.shape[1:2], memory.shape[2] // 2
        out = expanded.new_empty(batch, width)
        shape = self._shape(batch, tokens, width)
        self._functions.advance(_at(expanded), _at(memory), _at(slots), _at(places), _at(rows), *shape, _at(out))
        return out

    def _shape(self, batch: int, tokens: int, width: int) -> tuple[int | float, ...]:
        return (
            self._tables.data_ptr(),
            self._tables.shape[1],
            batch,
            tokens,
            self._heads,
            width // self._heads,
            self._scale.data_ptr(),
            self._shift.data_ptr(),
            self._epsilon,
        )


def normalise(states: Tensor, scale: Tensor, shift: Tensor, epsilon: float, kind: torch.dtype) -> Tensor:
    """The layer norm of fp32 states (..., D) in another type; of widths that `FusedAttention.there_is` names."""
    found = _functions(kind)
    assert found is not None
    out = states.new_empty(states.shape, dtype=kind)
    width = states.shape[-1]
    found.normalise(_at(states), states.numel() // width, width, _at(scale), _at(shift), epsilon, _at(out))
    return out


class _Functions(NamedTuple):
    every: Function
    newest: Function
    advance: Function
    normalise: Function


@cache
def _functions(kind: torch.dtype) -> _Functions | None:
    if kind not in _NAMES:
        return None
    arguments = {
        "every": (c_void_p, c_void_p, *_SHAPE, c_void_p, c_void_p),
        "newest": (c_void_p, c_void_p, c_void_p, *_SHAPE, c_void_p, c_void_p),
        "advance": (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, *_SHAPE, c_void_p),
        "normalise": (c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_float, c_void_p),
    }
    found = [function(_SOURCE, f"{name}_{_NAMES[kind]}", kinds) for name, kinds in arguments.items()]
    return None if None in found else _Functions(*found)


def _at(tensor: Tensor) -> int:
    """Where a tensor's numbers lie, one after the other."""
    assert tensor.is_contiguous()
    return tensor.data_ptr()
