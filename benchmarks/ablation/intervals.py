"""How much a row differs from another, with a paired interval over users, from the ranks that were kept of both."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.evaluation.metrics import Ranks, ndcg
from asterism.evaluation.significance import CONFIDENCE_LEVEL, bootstrap_means

CUTOFF: Final = 10
SAMPLES: Final = 2000
PARTS: Final = ("validation", "test")

Ranking = dict[str, NDArray[np.int64]]  # "<part>_users" and "<part>_<order>", one entry a case


class Difference(NamedTuple):
    """Of mean NDCG@10, with the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: Ranks, second: Ranks, users: NDArray[np.integer], seed: int, samples: int = SAMPLES
) -> Difference:
    """Mean NDCG@10 of `first` less that of `second`, both (cases,), with a bootstrap interval over users.

    All of a user's cases are drawn together. Raises `ValueError` where the cases do not pair up.
    """
    if not len(first) == len(second) == len(users):
        raise ValueError(f"{len(first)} ranks, {len(second)} ranks and {len(users)} users cannot be paired")
    _, of_case = np.unique(users, return_inverse=True)
    gains = ndcg(first, CUTOFF) - ndcg(second, CUTOFF)
    by_user = np.column_stack([np.bincount(of_case, weights=gains), np.bincount(of_case)]).astype(np.float64)
    drawn = bootstrap_means(by_user, samples, seed)
    tail = (1.0 - CONFIDENCE_LEVEL) / 2.0
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [tail, 1.0 - tail])
    return Difference(float(gains.mean()), float(low), float(high))


def save_ranking(ranking: Ranking, file: Path) -> None:
    """Keep the ranks of one row; a crash leaves no half a file."""
    staging = file.with_name(f".{file.name}")
    with staging.open("wb") as stream:
        np.savez_compressed(stream, **{name: ranks.astype(np.int32) for name, ranks in ranking.items()})  # type: ignore[arg-type]
    staging.replace(file)


def load_ranking(file: Path) -> Ranking:
    """The ranks of one row."""
    with np.load(file) as kept:
        return {name: kept[name].astype(np.int64) for name in kept.files}
