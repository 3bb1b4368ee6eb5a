"""How sure a mean is: percentile bootstrap intervals, and a paired bootstrap test between two systems.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_LEVEL: Final = 0.95


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class Comparison(NamedTuple):
    """How much one system's mean exceeds another's on the same cases."""

    difference: float
    low: float
    high: float
    p_value: float  # two-sided, for "the true difference is zero"


def bootstrap_means(values: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    """(samples, M) means of `values` (cases, M) over cases drawn anew with replacement.

    Cases with equal rows are interchangeable, so a resample is a multinomial draw of how often each
    distinct row comes; metrics of ranks have few distinct rows, which makes this fast. Columns share the draws.
    """
    cases = len(values)
    if cases == 0:
        raise ValueError("there are no cases to draw from")
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(cases, counts / cases, size=samples)
    return np.asarray(draws @ distinct / cases, dtype=np.float64)


def mean_intervals(
    values: NDArray[np.float64], samples: int, seed: int, level: float = CONFIDENCE_LEVEL
) -> list[Interval]:
    """Percentile bootstrap intervals of the column means of `values` (cases, M)."""
    means = bootstrap_means(values, samples, seed)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def compare_paired(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    samples: int,
    seed: int,
    level: float = CONFIDENCE_LEVEL,
) -> Comparison:
    """Paired bootstrap of mean(first) - mean(second), both (cases,) over the same cases in the same order.

    p = (1 + #{|d* - d| ≥ |d|}) / (samples + 1): resampled differences d*, centred on the null hypothesis by
    taking off the observed d, that are at least as far from zero as d. Raises `ValueError` on unequal lengths.
    """
    if first.shape != second.shape:
        raise ValueError(f"{first.shape[0]} cases cannot be paired with {second.shape[0]}")
    differences = (first - second)[:, None]
    observed = float(differences.mean())
    drawn = bootstrap_means(differences, samples, seed)[:, 0]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    as_far = np.abs(drawn - observed) >= abs(observed)
    return Comparison(observed, float(low), float(high), float((1 + as_far.sum()) / (samples + 1)))
