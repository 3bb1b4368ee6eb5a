"""What the next item of a slate is worth beside those that are in it already."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: A candidate with less than this left of its variance is taken to be a mix of those chosen.
_NOTHING_NEW: Final = 1e-6
#: More than the likeness to others can move a gain, divided by the strength: by 2 in MMR, by −log of the above in DPP.
WIDEST_GAIN: Final = 20.0


class Objective(Protocol):
    """Greedy choice: the highest gain is taken, and changes the gains of the rest."""

    @property
    def gains(self) -> Floats:
        """(n,) what each candidate would add now; of those taken already, anything."""
        ...

    def take(self, row: int) -> None:
        """Count a candidate among the chosen."""
        ...


class Relevance:
    """No diversity: a candidate adds its relevance, whatever stands beside it."""

    def __init__(self, relevance: Floats) -> None:
        self.gains = relevance

    def take(self, row: int) -> None:
        """See `Objective.take`."""


class MarginalRelevance:
    """Maximal marginal relevance: λ · relevance − (1 − λ) · highest cosine to a chosen one, λ = 1 − strength.

    Carbonell and Goldstein (1998), "The Use of MMR". The first choice is by relevance alone.
    """

    def __init__(self, relevance: Floats, similarities: NDArray[np.floating], strength: float) -> None:
        """Take `relevance` (n,), cosines (n, n) and a strength in [0, 1)."""
        self._worth = (1.0 - strength) * relevance
        self._similarities = similarities
        self._strength = strength
        self._nearest: Floats | None = None

    @property
    def gains(self) -> Floats:
        """See `Objective.gains`."""
        return self._worth if self._nearest is None else self._worth - self._strength * self._nearest

    def take(self, row: int) -> None:
        """See `Objective.take`."""
        beside = self._similarities[row]
        self._nearest = (
            beside.astype(np.float64) if self._nearest is None else np.maximum(self._nearest, beside, out=self._nearest)
        )


class Determinant:
    """Greedy MAP inference for a determinantal point process, L = diag(q) S diag(q), q = exp(α · relevance).

    Chen, Zhang and Zhou (2018), "Fast Greedy MAP Inference for Determinantal Point Process to Improve Recommendation
    Diversity", algorithm 1 with their α = θ / (2 (1 − θ)), θ = 1 − strength. The gain of a candidate is the growth of
    log det L over the chosen, 2 α r + log d², where d² is what its similarity to them leaves of its variance. The
    Cholesky factor is that of S: q cancels out of it, and would overflow. A choice costs O(n) for each one before it.
    """

    def __init__(self, relevance: Floats, similarities: NDArray[np.floating], strength: float, slots: int) -> None:
        """Take `relevance` (n,), positive semi-definite cosines (n, n), a strength in (0, 1), and how many to take."""
        self._worth = (1.0 - strength) / strength * relevance
        self._similarities = similarities
        self._factor = np.zeros((slots, len(relevance)))  # (chosen, n) rows of the Cholesky factor
        self._chosen = 0
        self._left = np.ones(len(relevance))  # (n,) d²

    @property
    def gains(self) -> Floats:
        """See `Objective.gains`; what adds nothing new comes last, by relevance."""
        return self._worth + np.log(np.maximum(self._left, _NOTHING_NEW))

    def take(self, row: int) -> None:
        """See `Objective.take`."""
        if self._left[row] <= _NOTHING_NEW:
            return
        known = self._factor[: self._chosen]
        new = (self._similarities[row] - known[:, row] @ known) / np.sqrt(self._left[row])
        self._left = self._left - new * new
        self._factor[self._chosen] = new
        self._chosen += 1
