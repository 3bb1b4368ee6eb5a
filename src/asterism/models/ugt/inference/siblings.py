"""The code decoder asked about single steps, by compiled code (`siblings.cpp`)."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, addressof, c_float, c_int64, c_void_p, cast
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor

from asterism.core.native import Function, function
from asterism.models.ugt.code_tree import TreeLevel

_SOURCE: Final = Path(__file__).with_name("siblings.cpp")
_STEP: Final = 16  # widths that are no multiple of this are left to torch
_ARGUMENTS: Final = (c_void_p, *[c_int64] * 3, c_void_p, c_void_p, c_int64, *[c_void_p] * 3)


class LevelArrays(NamedTuple):
    """A level of the tree of codes and what scores its nodes."""

    size: int
    tree: TreeLevel
    codes: Tensor  # (nodes,) long
    of_unseen: Tensor  # (parents,)
    of_seen: Tensor  # (parents,)
    vectors: Tensor | None  # (nodes, D) fp32 or bf16; None where nothing branches
    turn: tuple[Tensor, Tensor] | None  # (D, D) and (D,) from a state to its query


class _Level(Structure):
    _fields_ = (
        ("size", c_int64),
        *((name, c_void_p) for name in ("first", "counts", "codes", "of_unseen", "of_seen", "vectors")),
        ("is_bfloat16", c_int64),
        ("turn", c_void_p),
        ("shift", c_void_p),
    )


class _Decoder(Structure):
    _fields_ = (("levels", c_void_p), ("width", c_int64), ("temperature", c_float))


class Siblings:
    """Scalar products of a state's query and the children below a prefix, and their softmax; fp32 throughout."""

    def __init__(self, levels: Sequence[LevelArrays], width: int, temperature: float, ask: Function) -> None:
        self._ask = ask
        self._held: list[Tensor] = []  # what the structure points at
        self._levels = (_Level * len(levels))(*map(self._level, levels))
        self._decoder = _Decoder(addressof(self._levels), width, temperature)
        self.context = addressof(self._decoder)
        self.function = cast(ask, c_void_p).value or 0

    @classmethod
    def of(cls, levels: Sequence[LevelArrays], temperature: float) -> Siblings | None:
        """None where compiled code cannot be had, or is not written for this width."""
        widths = {one.vectors.shape[1] for one in levels if one.vectors is not None} or {_STEP}
        ask = function(_SOURCE, "step_log_probs", _ARGUMENTS, c_int64)
        if ask is None or any(width % _STEP for width in widths):
            return None
        return cls(levels, widths.pop(), temperature, ask)

    def log_probs(self, states: Tensor, prefixes: Tensor, origins: Tensor, codes: Tensor) -> Tensor:
        """(B, D) states, (B, W, l) prefixes, int32 origins and codes (n,) → (n,); see `policy.ScoresSteps`."""
        states, prefixes = states.float().contiguous(), prefixes.contiguous()
        origins, codes = origins.contiguous(), codes.contiguous()
        found = torch.empty(len(origins))
        beams, number = prefixes.shape[1:]
        arrays = (origins.data_ptr(), codes.data_ptr(), found.data_ptr())
        steps = (len(states), beams, states.data_ptr(), prefixes.data_ptr(), len(origins), *arrays)
        self._ask(self.context, number, *steps)
        return found

    def _level(self, level: LevelArrays) -> _Level:
        turn, shift = level.turn if level.turn is not None else (None, None)
        tree = level.tree
        return _Level(
            level.size,
            *map(self._hold, (tree.first, tree.counts, level.codes, level.of_unseen, level.of_seen, level.vectors)),
            int(level.vectors is not None and level.vectors.dtype == torch.bfloat16),
            self._hold(turn),
            self._hold(shift),
        )

    def _hold(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        self._held.append(tensor.contiguous())
        return self._held[-1].data_ptr()
