"""The model's buckets as lists of thresholds, which a graph searches by comparisons alone.

A logarithm, or a float in place of an integer, may round differently from runtime to runtime, and in half precision a
gap of a day is infinite. A comparison with the amount at which training moves on to the next bucket is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.decoding.graph.values import Value
from asterism.models.ugt.buckets import HASH_BUCKETS, TIME_BUCKETS, VALUE_BUCKETS, gap_bucket, value_bucket

_ZERO_VALUE = VALUE_BUCKETS // 2  # the row of a value of zero
_LONGEST_GAP = 1 << 33
_INFINITY_BITS = 0x7F800000  # of +inf as float32; the bits of positive floats are in the floats' order


def gap_buckets(seconds: Value) -> Value:
    """What `gap_bucket` answers for long seconds ≥ 0."""
    return reached(seconds, gap_thresholds())


def value_buckets(values: Value) -> Value:
    """What `value_bucket` answers."""
    size = reached(values.magnitude(), value_thresholds())
    graph = values.graph
    return graph.where(values.is_nan(), 0, graph.where(values < 0, -size, size) + _ZERO_VALUE)


def hash_buckets(codes: Value) -> Value:
    """What `hash_bucket` answers."""
    return codes.graph.where(codes > 0, (codes - 1) % HASH_BUCKETS + 1, 0)


def reached(amounts: Value, thresholds: NDArray[np.int64] | NDArray[np.float32]) -> Value:
    """How many of the ascending thresholds (n,), of the amounts' type, each amount has reached; 0 for NaN.

    By halving, so log2(n) comparisons.
    """
    rounds = len(thresholds).bit_length()
    never = np.nan if amounts.dtype.kind == "f" else np.iinfo(np.int64).max
    padded = np.full((1 << rounds) - 1, never, dtype=amounts.dtype)
    padded[: len(thresholds)] = thresholds
    table = amounts.graph.constant(padded)
    found: Value | None = None
    for step in (1 << bit for bit in reversed(range(rounds))):
        threshold = amounts.graph.constant(padded[step - 1]) if found is None else table.at(found + (step - 1))
        more = (amounts >= threshold).cast(np.int64) * step
        found = more if found is None else found + more
    assert found is not None
    return found


def gap_thresholds() -> NDArray[np.int64]:
    """(31,) the fewest seconds in each time bucket but the first."""
    found: NDArray[np.int64] = _smallest(gap_bucket, TIME_BUCKETS - 1, _LONGEST_GAP).numpy()
    return found


def value_thresholds() -> NDArray[np.float32]:
    """(128,) the smallest magnitude in each row of the value table above that of zero."""
    keys = _smallest(lambda bits: value_bucket(_of_bits(bits)) - _ZERO_VALUE, VALUE_BUCKETS // 2 - 1, _INFINITY_BITS)
    found: NDArray[np.float32] = _of_bits(keys).numpy()
    return found


def _of_bits(bits: Tensor) -> Tensor:
    return bits.to(torch.int32).view(torch.float32)


def _smallest(bucket: Callable[[Tensor], Tensor], count: int, top: int) -> Tensor:
    """(count,) the smallest keys of 0 … `top` whose buckets are at least 1 … count; `bucket` must not fall."""
    wanted = torch.arange(1, count + 1)
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, top)
    while bool((low < high).any()):
        middle = (low + high) // 2
        enough = bucket(middle) >= wanted
        low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
    return low
