"""What a batch costs: a shape measured when the model is loaded, and a speed learned from every batch since."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress, product
from typing import Final, NamedTuple

import numpy as np

_SPEED_STEP: Final = 0.15  # of the way from the old speed to that of the newest batch
_SPREAD_STEP: Final = 0.05
_WIDEST_JUMP: Final = math.log(2.0)  # of one batch: a stall of the machine is no new speed
_SPREADS_KEPT: Final = 2.0  # so many mean deviations above the mean count as what a batch may take


class CostSample(NamedTuple):
    """A measured batch."""

    rows: int
    width: int
    seconds: float


class CostShape(NamedTuple):
    """Seconds of a batch = fixed + rows * (per_row + width * per_path)."""

    fixed: float = 1e-3
    per_row: float = 1e-4
    per_path: float = 0.0

    def seconds(self, rows: int, width: int) -> float:
        """Of `rows` requests decoded `width` beams wide."""
        return self.fixed + rows * (self.per_row + width * self.per_path)


def fit_shape(samples: Sequence[CostSample]) -> CostShape:
    """The non-negative shape with the least squared relative error; of fewer than three samples, their mean alone."""
    if not samples:
        return CostShape()
    seconds = np.array([max(one.seconds, 1e-6) for one in samples])
    if len(samples) < 3:
        return CostShape(float(seconds.mean()), 0.0, 0.0)
    parts = np.array([[1.0, one.rows, one.rows * one.width] for one in samples])
    parts /= seconds[:, None]
    best = (float(len(samples)), np.zeros(3))  # the squared error of all zeros
    for used in product((False, True), repeat=3):
        columns = list(compress(range(3), used))
        found = np.zeros(3)
        found[columns] = np.linalg.lstsq(parts[:, columns], np.ones(len(samples)))[0] if columns else ()
        error = float(((parts @ found - 1.0) ** 2).sum())
        if (found >= 0).all() and error < best[0] - 1e-12:
            best = error, found
    return CostShape(*best[1].tolist())


class CostModel:
    """Service times by rows and width, kept true while the machine and the requests change.

    The ratio of measured to expected time is averaged over batches as a logarithm, as is its mean deviation (the
    two running means of TCP's retransmission timer, Jacobson 1988, on a multiplicative scale). One batch moves
    neither by more than a doubling would.
    """

    def __init__(self, samples: Sequence[CostSample] = ()) -> None:
        self.shape = fit_shape(samples)
        self._log_speed, self._speed = 0.0, 1.0
        self._spread = 0.1

    @property
    def speed(self) -> float:
        """How many times longer than when it was measured a batch takes now."""
        return self._speed

    @property
    def spread(self) -> float:
        """The mean relative deviation of a batch from what was expected of it."""
        return self._spread

    def observe(self, rows: int, width: int, seconds: float) -> None:
        """Learn from a batch that was served."""
        expected = self.shape.seconds(rows, width)
        off = math.log(max(seconds, 1e-6) / expected) - self._log_speed
        off = min(max(off, -_WIDEST_JUMP), _WIDEST_JUMP)
        self._spread += _SPREAD_STEP * (abs(off) - self._spread)
        self._log_speed += _SPEED_STEP * off
        self._speed = math.exp(self._log_speed)

    @property
    def fixed_seconds(self) -> float:
        """What a batch takes whoever is in it: what a request saves that comes along in another's."""
        return self._speed * self.shape.fixed

    def seconds(self, rows: int, width: int) -> float:
        """What a batch is expected to take."""
        return self._speed * self.shape.seconds(rows, width)

    def likely_seconds(self, rows: int, width: int) -> float:
        """What a batch hardly exceeds; promises are made on this."""
        return self.seconds(rows, width) * (1.0 + _SPREADS_KEPT * self._spread)

    def most_rows(self, width: int, seconds: float, at_most: int) -> int:
        """The largest batch that hardly exceeds `seconds`; 0 where not even one request fits."""
        one_more = self.likely_seconds(2, width) - self.likely_seconds(1, width)
        left = seconds - self.likely_seconds(1, width)
        if left < 0:
            return 0
        return at_most if one_more <= 0 else min(at_most, 1 + int(left / one_more))
