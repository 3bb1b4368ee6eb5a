"""From amounts and hash codes to rows of small tables."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

TIME_BUCKETS: Final = 32
#: Rows of a table of hashed labels, the one for "none" not counted; labels that share a row are not told apart.
HASH_BUCKETS: Final = 1024
#: Rows of a table of values: NaN has row 0, and zero the middle of the others.
VALUE_BUCKETS: Final = 2 * 128 + 2
_VALUE_STEPS = 8  # a doubling, so that ratings a half apart differ


def gap_bucket(seconds: Tensor) -> Tensor:
    """Bucket b of 0 … 31 holds gaps of [2**b − 1, 2**(b + 1) − 1) seconds; the last one all longer gaps too."""
    exponent = torch.frexp(seconds.float() + 1.0).exponent  # of a fraction below one: no logarithm, no rounding
    return (exponent.long() - 1).clamp(max=TIME_BUCKETS - 1)


def value_bucket(values: Tensor) -> Tensor:
    """Row of a value v, any shape: 129 + sign(v) · ⌊8 log2(1 + |v|)⌋, cut at 128 steps; 0 for NaN."""
    size = (_VALUE_STEPS * torch.log2(values.abs() + 1.0)).nan_to_num(0.0, posinf=128.0).long().clamp(max=128)
    row = 129 + torch.where(values < 0, -size, size)
    return torch.where(values.isnan(), 0, row)


def hash_bucket(codes: Tensor) -> Tensor:
    """Row of a hash code, any shape: 1 … 1024; 0 stays 0."""
    return torch.where(codes > 0, 1 + (codes - 1) % HASH_BUCKETS, 0)
