"""What a candidate is worth before anything is said of the others in the slate."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_DAY_SECONDS: Final = 86_400.0


def relevance_of_places(count: int) -> NDArray[np.float64]:
    """(count,) 1 / log2(1 + place), places from 1: what DCG (Järvelin and Kekäläinen 2002) takes a place to be worth.

    Places are comparable across models and across the rungs of the ladder, where scores are not.
    """
    worth: NDArray[np.float64] = 1.0 / np.log2(np.arange(2.0, count + 2.0))
    return worth


def freshness_factors(
    created_at: NDArray[np.float64], now_seconds: float, weight: float, half_life_days: float
) -> NDArray[np.float64]:
    """(n,) 1 + weight · 2^(−age / half-life); 1 where `created_at` (n,) in Unix seconds is NaN."""
    ages = np.maximum(now_seconds - created_at, 0.0) / (half_life_days * _DAY_SECONDS)
    return 1.0 + weight * np.nan_to_num(np.exp2(-ages), nan=0.0)
