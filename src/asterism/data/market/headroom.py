"""How much there is to learn: where the truth, popularity and simple co-occurrence rank each user's last item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.core.progress import track
from asterism.data.market.market import Market


@dataclass(frozen=True, slots=True)
class TargetRanks:
    """Per asked user, the rank (from 0) of the last item among items not yet taken."""

    oracle: NDArray[np.int64]  # by the true next-item distribution
    popularity: NDArray[np.int64]  # by engagements in all histories
    transition: NDArray[np.int64]  # by how often it came directly after the last item


def target_ranks(market: Market, max_users: int | None = None) -> TargetRanks:
    """Hold out the last engagement of every user who has three or more, and rank it three ways."""
    positives = market.positives
    asked = np.flatnonzero(positives.lengths >= 3)[:max_users]
    starts, stops = positives.offsets[:-1], np.maximum(positives.offsets[1:] - 1, positives.offsets[:-1])
    known = positives.slices(starts, stops)
    counts = np.bincount(known.items, minlength=len(market.items)).astype(np.float64)
    after = _transitions(known.items, known.offsets, len(market.items))
    ranks: list[tuple[int, int, int]] = []
    for user in track(asked.tolist(), "ranking last items"):
        target = int(positives.items[positives.offsets[user + 1] - 1])
        at = int(positives.timestamps[positives.offsets[user + 1] - 1])
        past = known.items[known.row(user)]
        oracle = market.true_next_distribution(user, at)
        follow = np.bincount(after[past[-1]], minlength=len(counts)) + counts / (counts.sum() + 1)
        ranks.append((_rank(oracle, target, past), _rank(counts, target, past), _rank(follow, target, past)))
    return TargetRanks(*np.array(ranks, dtype=np.int64).reshape(-1, 3).T)


def ndcg(ranks: NDArray[np.int64], cutoff: int = 10) -> float:
    """Mean NDCG of single targets at ranks (from 0): 1 / log2(rank + 2) where the rank is below the cutoff."""
    return float(np.where(ranks < cutoff, 1.0 / np.log2(ranks + 2.0), 0.0).mean())


def _transitions(items: NDArray[np.int32], offsets: NDArray[np.int64], count: int) -> list[NDArray[np.int32]]:
    """For each item, what came directly after it, over all users."""
    inner = np.ones(len(items), dtype=bool)
    inner[offsets[1:-1][offsets[1:-1] < len(items)]] = False
    if len(inner):
        inner[0] = False
    later = np.flatnonzero(inner)
    order = np.argsort(items[later - 1], kind="stable")
    bounds = np.searchsorted(items[later - 1][order], np.arange(1, count))
    return np.split(items[later][order], bounds)


def _rank(scores: NDArray[np.float64], target: int, past: NDArray[np.int32]) -> int:
    """Ties count against the target by half, so that a constant score wins nothing."""
    free = np.ones(len(scores), dtype=bool)
    free[past] = False
    free[target] = False
    above = int((scores[free] > scores[target]).sum())
    return above + int((scores[free] == scores[target]).sum()) // 2
