"""Accuracy of ranked lists, one value a case: the only definitions of these metrics in Asterism.

A case c has one right answer, its target, found at the 0-based rank r_c of its list, or not at all.
All functions take ranks, (cases,) with NOT_FOUND where the list does not hold the target, and a cutoff k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import ModelError
from asterism.evaluation.ranking import PADDING

NOT_FOUND: Final = -1

Ranks = NDArray[np.int64]
Values = NDArray[np.float64]


def recall(ranks: Ranks, k: int) -> Values:
    """Recall@k = [r_c < k]: the share of a case's relevant items among the first k; here there is one such item.

    For the same reason the hit rate HR@k, "is any relevant item among the first k", is the same number.
    """
    return _found(ranks, k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """NDCG@k = [r_c < k] / log2(r_c + 2); with one relevant item the ideal DCG is 1/log2(2) = 1.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with binary gains.
    """
    found = _found(ranks, k)
    return np.where(found, 1.0 / np.log2(np.where(found, ranks, 0) + 2.0), 0.0)


def mrr(ranks: Ranks, k: int) -> Values:
    """MRR@k before the mean: [r_c < k] / (r_c + 1), the reciprocal of the target's 1-based rank."""
    found = _found(ranks, k)
    return np.where(found, 1.0 / (np.where(found, ranks, 0) + 1.0), 0.0)


METRICS: Final[dict[str, Callable[[Ranks, int], Values]]] = {
    "recall": recall,
    "hr": recall,
    "ndcg": ndcg,
    "mrr": mrr,
}


def target_ranks(lists: NDArray[np.integer], targets: NDArray[np.integer]) -> Ranks:
    """(cases,) 0-based rank of each target in its row of `lists` (cases, k), or NOT_FOUND."""
    matches = lists == targets[:, None]
    return np.where(matches.any(axis=1), matches.argmax(axis=1), NOT_FOUND).astype(np.int64)


def per_case_metrics(ranks: Ranks, cutoffs: Iterable[int]) -> dict[str, Values]:
    """Every metric at every cutoff, as `ndcg@10` → (cases,) values."""
    ordered = sorted(set(cutoffs))
    return {f"{name}@{k}": metric(ranks, k) for name, metric in METRICS.items() for k in ordered}


def mean_metrics(ranks: Ranks, cutoffs: Iterable[int]) -> dict[str, float]:
    """Every metric at every cutoff, averaged over cases; raises `ValueError` where there is no case."""
    if len(ranks) == 0:
        raise ValueError("a mean over no cases has no value")
    return {name: float(values.mean()) for name, values in per_case_metrics(ranks, cutoffs).items()}


def check_lists(lists: NDArray[Any], rows: int, k: int, catalogue_size: int, first_case: int = 0) -> None:
    """Raise `ModelError`, naming the case, where `lists` are not (rows, k) valid rankings of the catalogue.

    A wrong shape or type, an item outside the catalogue, an item listed twice and an item after padding are errors.
    """
    if lists.shape != (rows, k) or not np.issubdtype(lists.dtype, np.integer):
        raise ModelError(
            f"cases {first_case} to {first_case + rows - 1}: the recommender returned {lists.dtype} of shape "
            f"{lists.shape}; it must return integers of shape {(rows, k)}, padded by {PADDING}"
        )
    _refuse((lists < PADDING) | (lists >= catalogue_size), lists, first_case, f"is not one of {catalogue_size} items")
    ordered = np.sort(lists, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)
    _refuse(repeated, ordered[:, 1:], first_case, "stands twice in the list")
    after_padding = (lists[:, :-1] == PADDING) & (lists[:, 1:] != PADDING)
    _refuse(after_padding, lists[:, 1:], first_case, f"stands after padding; {PADDING} belongs at the end")


def _refuse(wrong: NDArray[np.bool_], lists: NDArray[Any], first_case: int, reason: str) -> None:
    if wrong.any():
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        raise ModelError(f"case {first_case + row}: item {lists[row, column]} {reason}; mend the recommender")


def _found(ranks: Ranks, k: int) -> NDArray[np.bool_]:
    if k < 1:
        raise ValueError(f"a cutoff must be at least 1, not {k}")
    found: NDArray[np.bool_] = (ranks != NOT_FOUND) & (ranks < k)
    return found
