"""Linear maps whose weights are laid out once, in the precision that requests are answered in."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

Precision = Literal["fp32", "bf16", "int8"]

#: Rows that oneDNN lays weights out for; other numbers of rows are multiplied too.
_EXPECTED_ROWS: Final = 512
_LARGEST_CODE: Final = 127.0
_LARGEST_OF_PAIRS: Final = 64.0  # 2 × 255 × 64 fits into 16 bits with a sign


class Linear(Protocol):
    """A linear map that is ready to be used."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """(..., K) in the activations' type → (..., N) in the same."""
        ...


def activation_type(precision: Precision) -> torch.dtype:
    """The type of what goes into and comes out of matrix products; int8 quantises inside of them."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def packed(weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
    """The map x → x Wᵀ + b for a weight (N, K) and a bias (N,)."""
    weight = weight.detach().contiguous()
    bias = None if bias is None else bias.detach()
    if precision == "int8":
        return _RowQuantised(weight, bias)
    if precision == "bf16" and weight.device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return _Packed(weight, bias)
    return _Plain(weight.to(activation_type(precision)), None if bias is None else bias.to(activation_type(precision)))


class _Plain:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self._weight, self._bias)


class _Packed:
    """bf16 weights in the tiles that oneDNN multiplies, so that no call rearranges them."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), _EXPECTED_ROWS)
        self._bias = None if bias is None else bias.bfloat16()

    def __call__(self, inputs: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, "none", [], "")
        return found


class _RowQuantised:
    """int8 weights with a scale an output, and inputs rounded to int8 with a scale a row, anew in each call.

    A scale a row, not one a call, so that an answer does not depend on the rows beside it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _largest_weight()
        codes = (weight / scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(codes, [_EXPECTED_ROWS, weight.shape[1]])
        self._scales = scales
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = bias

    def __call__(self, inputs: Tensor) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        scale = rows.abs().amax(dim=1, keepdim=True).float().clamp_(min=1e-12) / _LARGEST_CODE
        codes = (rows / scale).round_().to(torch.int8)
        found = _multiplied(codes, self._weight, self._scales, self._zeros)
        found *= scale
        if self._bias is not None:
            found += self._bias
        return found.to(inputs.dtype).view(*inputs.shape[:-1], -1)


@cache
def _largest_weight() -> float:
    """The largest int8 weight whose products come out right.

    Processors that cannot multiply bytes into 32 bits add pairs of products in 16 bits, which saturate.
    """
    full = torch.full((1, 64), int(_LARGEST_CODE), dtype=torch.int8)
    found = _multiplied(
        full, torch.ops.onednn.qlinear_prepack(full, [1, 64]), torch.ones(1), torch.zeros(1, dtype=torch.int32)
    )
    return _LARGEST_CODE if found.item() == 64 * _LARGEST_CODE**2 else _LARGEST_OF_PAIRS


def _multiplied(codes: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """(R, K) int8 inputs times a laid out weight (N, K), in fp32; its rows have scales and zero points (N,)."""
    found: Tensor = torch.ops.onednn.qlinear_pointwise(
        codes, 1.0, 0, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return found
