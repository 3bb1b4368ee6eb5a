"""The weights of the final order, chosen on validation once the model is trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from asterism.core.progress import track
from asterism.evaluation.metrics import NOT_FOUND, Ranks, ndcg

CUTOFF: Final = 10
_GRID_STEPS: Final = 10  # parts that a total weight of one is shared in
_REFINEMENTS: Final = (0.05, 0.02)  # of a weight, up and down, after the grid

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """What each head says of the candidates that were generated for each case, in ascending order of item index."""

    scores: NDArray[np.float32]  # (heads, cases, candidates)
    present: NDArray[np.bool_]  # (cases, candidates) False where a case has no more candidates
    targets: NDArray[np.int64]  # (cases,) the target's place among the candidates, NOT_FOUND where it was not generated


@dataclass(frozen=True, slots=True)
class FusionChoice:
    """The weights found, for scores as they are, and what they are worth."""

    weights: Weights  # (heads,)
    ndcg_at_10: float
    ndcg_at_10_before: float  # of the weights that the search started from


def choose_weights(candidates: CandidateScores, start: Weights) -> FusionChoice:
    """The weights with the highest NDCG@10, found among scores of equal spread.

    Each head's scores are divided by their mean standard deviation within a case, and the weights of all heads sum to
    one. A grid in steps of a tenth is gone through, then the best point is improved one weight at a time. `start`
    (heads,), for scores as they are, wins every tie. A head whose scores never differ gets no weight.
    """
    spread = mean_spread(candidates)
    useful = spread > 0
    if not useful.any() or not (candidates.targets != NOT_FOUND).any():
        return FusionChoice(start, 0.0, 0.0)
    asked = _scaled(candidates, np.where(useful, spread, 1.0))
    cases = len(candidates.targets)

    def worth(weights: Weights) -> float:
        return float(ndcg(fused_ranks(asked, weights), CUTOFF).sum()) / cases

    scaled_start = start * np.where(useful, spread, 0.0)
    before = worth(scaled_start)
    best, best_worth = None, before
    for weights in track(list(_grid(useful)), "choosing fusion weights"):
        if (value := worth(weights)) > best_worth:
            best, best_worth = weights, value
    if best is None:
        return FusionChoice(start, before, before)
    for step in _REFINEMENTS:
        best, best_worth = _improved(best, best_worth, step, useful, worth)
    raw = best / np.where(useful, spread, 1.0)
    return FusionChoice(raw / raw[np.flatnonzero(raw)[0]], best_worth, before)


def mean_spread(candidates: CandidateScores) -> Weights:
    """(heads,) the standard deviation of each head's scores among a case's candidates, averaged over cases."""
    count = np.maximum(candidates.present.sum(axis=1), 1)
    scores = np.where(candidates.present, candidates.scores, 0.0).astype(np.float64)
    centred = np.where(candidates.present, scores - (scores.sum(axis=2) / count)[:, :, None], 0.0)
    spread: Weights = np.sqrt((centred**2).sum(axis=2) / count).mean(axis=1)
    return spread


def fused_ranks(candidates: CandidateScores, weights: Weights) -> Ranks:
    """(cases,) the target's rank by Σ_h w_h s_h, or NOT_FOUND; of equal sums the lower item index stands first."""
    fused = np.tensordot(weights.astype(np.float32), candidates.scores, axes=1)
    fused[~candidates.present] = -np.inf
    place = candidates.targets.clip(min=0)[:, None]
    own = np.take_along_axis(fused, place, axis=1)
    ahead = (fused > own) | ((fused == own) & (np.arange(fused.shape[1]) < place))
    return np.where(candidates.targets == NOT_FOUND, NOT_FOUND, ahead.sum(axis=1)).astype(np.int64)


def _scaled(candidates: CandidateScores, spread: Weights) -> CandidateScores:
    """The cases whose target was generated, in scores of spread one; the others' worth is zero whatever the weights."""
    asked = candidates.targets != NOT_FOUND
    scores = candidates.scores[:, asked] / spread.astype(np.float32)[:, None, None]
    return CandidateScores(scores, candidates.present[asked], candidates.targets[asked])


def _grid(useful: NDArray[np.bool_]) -> Iterator[Weights]:
    """All weights in steps of a tenth that sum to one, zero for a head that is not useful."""
    steps = range(_GRID_STEPS + 1)
    for shares in itertools.product(steps, repeat=int(useful.sum())):
        if sum(shares) == _GRID_STEPS:
            weights = np.zeros(len(useful))
            weights[useful] = np.array(shares) / _GRID_STEPS
            yield weights


def _improved(
    best: Weights, best_worth: float, step: float, useful: NDArray[np.bool_], worth: Callable[[Weights], float]
) -> tuple[Weights, float]:
    """Go up the steepest single step, as long as there is one that gains."""
    while True:
        tried = [moved for moved in _steps(best, step, useful) if moved.sum() > 0]
        values = [worth(moved) for moved in tried]
        place = int(np.argmax(values)) if values else -1
        if place < 0 or values[place] <= best_worth:
            return best, best_worth
        best, best_worth = tried[place], values[place]


def _steps(weights: Weights, step: float, useful: NDArray[np.bool_]) -> Iterator[Weights]:
    for head in np.flatnonzero(useful):
        for change in (step, -step):
            moved = weights.copy()
            moved[head] = max(0.0, moved[head] + change)
            if moved[head] != weights[head]:
                yield moved
