"""By what alignment is judged: what the lists are worth that would be served to the validation cases."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from asterism.config import RunConfig
from asterism.data.sequences import Cases
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.loading import TrainedRecommender
from asterism.evaluation.beyond_accuracy import intra_list_diversity
from asterism.evaluation.metrics import ndcg, target_ranks
from asterism.models.trained import device_of
from asterism.training.alignment.lessons import TrainablePolicy
from asterism.training.alignment.outcome import AlignmentResult
from asterism.training.alignment.processes import Processes
from asterism.training.validation import sample_cases

CUTOFF = 10  # of the validation lists

#: What lists (cases, CUTOFF) of items are worth to each of the cases: (cases,).
Worth = Callable[[Cases, NDArray[np.int64]], NDArray[np.float64]]


class Validator:
    """Makes lists for the validation cases, the users' histories excluded; several processes share the work."""

    def __init__(
        self, trained: TrainedRecommender, config: RunConfig, validation: Cases, heads: HistoryHeads, worth: Worth
    ) -> None:
        self._cases = sample_cases(validation, config.evaluation.validation_cases, config.seed)
        device = device_of(trained.policy)
        self._generator = Generator(trained.policy, trained.semantic_ids, config.decoding, heads=heads, device=device)
        self._vectors = trained.item_vectors
        self._worth = worth
        self._processes = Processes()
        self._lists: NDArray[np.int64] | None = None

    def __call__(self, policy: TrainablePolicy) -> NDArray[np.float64]:
        """(cases,) what the lists are worth by the policy's weights as they stand."""
        count = len(self._cases)
        rows = np.arange(count)[self._processes.share(count)]
        histories = self._cases.take(rows).histories
        found = self._generator.recommend(histories, CUTOFF, exclude_history=True, code_log_probs=False)
        self._lists = np.concatenate(self._processes.gathered(found.items, count))
        return self._worth(self._cases, self._lists)

    def diversity(self) -> float:
        """Of the lists made last: 1 − the mean cosine of their items, a pair at a time."""
        assert self._lists is not None
        return intra_list_diversity(self._lists, self._vectors) or 0.0


def ndcg_of_lists(cases: Cases, lists: NDArray[np.int64]) -> NDArray[np.float64]:
    """NDCG@10 of each case."""
    return ndcg(target_ranks(lists, cases.targets), CUTOFF)


def ending(result: AlignmentResult, significance: float) -> str:
    """What alignment came to, in two lines for a terminal."""
    ended = f"alignment ended after {result.steps} steps and {result.seconds:.0f} s: {result.stopped}"
    figures = f"validation {result.measure} {result.start_validation:.4f} → {result.best_validation:.4f}"
    if result.improved:
        return f"{ended}\n{figures} at step {result.best_step}, p = {result.p_value:.3f}"
    if result.best_step == 0:
        return f"{ended}\nno step was better than the start on validation, so the result is the start, unchanged"
    unsure = f"is no sure gain (p = {result.p_value:.3f}, above alignment.significance {significance:g})"
    return f"{ended}\n{figures} {unsure}, so the result is the start, unchanged"


def tell(line: str) -> None:
    """Say it where progress is shown."""
    print(line, file=sys.stderr)
