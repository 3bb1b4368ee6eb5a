"""Groups of cases that a mean hides: short and long histories, rare and frequent targets, cold items."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from asterism.data.sequences import Cases

#: Where a bucket begins; each ends before the next begins.
HISTORY_LENGTH_STARTS: Final = (0, 1, 5, 10, 20, 50)
TARGET_POPULARITY_STARTS: Final = (0, 1, 5, 10, 20, 50, 200)


@dataclass(frozen=True, slots=True)
class Slice:
    """Cases that share a property; within one group every case is in exactly one slice."""

    group: str
    label: str
    cases: NDArray[np.int64]  # positions in the split, ascending


def slice_cases(cases: Cases, train_counts: NDArray[np.int64]) -> list[Slice]:
    """Slices by events in the history, by training events of the target, and by whether the target is cold.

    `train_counts` (items,) are training events of each item; a cold item has none. Empty slices are kept.
    """
    target_counts = train_counts[cases.targets]
    cold = (target_counts == 0).astype(np.int64)
    return [
        *_buckets("history_length", cases.histories.lengths, HISTORY_LENGTH_STARTS),
        *_buckets("target_popularity", target_counts, TARGET_POPULARITY_STARTS),
        Slice("cold_items", "seen in training", np.flatnonzero(cold == 0)),
        Slice("cold_items", "never in training", np.flatnonzero(cold)),
    ]


def _buckets(group: str, amounts: NDArray[np.int64], starts: tuple[int, ...]) -> list[Slice]:
    bucket = np.digitize(amounts, starts) - 1
    return [Slice(group, label, np.flatnonzero(bucket == place)) for place, label in enumerate(bucket_labels(starts))]


def bucket_labels(starts: tuple[int, ...]) -> list[str]:
    """`(0, 1, 5)` → `0`, `1-4`, `5+`."""
    inner = [
        str(start) if following == start + 1 else f"{start}-{following - 1}"
        for start, following in itertools.pairwise(starts)
    ]
    return [*inner, f"{starts[-1]}+"]
