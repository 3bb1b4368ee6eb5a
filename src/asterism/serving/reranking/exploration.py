"""Slots given to candidates that the ranking would not show, at a known probability."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Exploration:
    """Each slot from `first_slot` (from 0) on is drawn for with probability `share`, until twice the share is drawn."""

    share: float
    first_slot: int = 0

    def most(self, slots: int) -> int:
        """How many slots of a slate are explored at most."""
        return ceil(2 * self.share * slots)


class Choice(NamedTuple):
    """A candidate and the probability with which it was chosen, given everything that stands above it."""

    row: int
    propensity: float
    explored: bool


def choose(greedy: int, drawable: NDArray[np.bool_], share: float, draws: tuple[float, float]) -> Choice:
    """The greedy candidate, or with probability `share` one of the drawable ones, each alike; `draws` in [0, 1).

    The greedy candidate is not among those drawn. Where there is no other, there is nothing to explore.
    """
    drawable[greedy] = False
    if share == 0.0 or not drawable.any():
        return Choice(greedy, 1.0, explored=False)
    if draws[0] >= share:
        return Choice(greedy, 1.0 - share, explored=False)
    pool = np.flatnonzero(drawable)
    return Choice(int(pool[int(draws[1] * len(pool))]), share / len(pool), explored=True)
