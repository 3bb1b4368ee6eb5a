"""The protocol: every case ranked over the whole catalogue, with and without the user's own history."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asterism.config import EvaluationConfig
from asterism.core.errors import DataError, ModelError
from asterism.core.progress import track
from asterism.data.sequences import Cases
from asterism.data.split import Split, SplitName
from asterism.evaluation.beyond_accuracy import ItemVectors, beyond_accuracy, exposure
from asterism.evaluation.metrics import Ranks, check_lists, mean_metrics, per_case_metrics, target_ranks
from asterism.evaluation.ranking import PADDING, in_history, item_counts
from asterism.evaluation.recommender import Recommender
from asterism.evaluation.result import (
    MODES,
    EvaluationResult,
    Measurement,
    Mode,
    SliceMetrics,
    SystemResult,
    headline_cutoff,
)
from asterism.evaluation.significance import Comparison, Interval, compare_paired, mean_intervals
from asterism.evaluation.slices import Slice, slice_cases

BATCH_CASES = 1024


def evaluate(
    recommender: Recommender,
    split: Split,
    name: SplitName,
    config: EvaluationConfig,
    item_vectors: ItemVectors | None = None,
    seed: int = 0,
    *,
    dataset: str,
    baselines: Sequence[Recommender] = (),
) -> EvaluationResult:
    """Measure a recommender and its baselines on all cases of `validation` or `test`.

    `item_vectors` (items, D) adds the diversity of lists; `seed` fixes the bootstrap. Raises `DataError` where the
    split has no cases and `ModelError`, naming the case, where a recommender returns no valid ranking.
    """
    cases = split.cases(name)
    if len(cases) == 0:
        raise DataError(f"the {name} part of {dataset} has no cases; take another split or longer histories")
    _refuse_equal_names(recommender, baselines)
    bench = _Bench(cases, item_counts(split.train, len(split.items)), config, item_vectors, seed)
    system = bench.measure(recommender)
    rivals = {one.name: bench.measure(one) for one in baselines}
    return EvaluationResult(
        dataset=dataset,
        split=name,
        users=len(np.unique(cases.users)),
        cases=len(cases),
        items=len(split.items),
        seed=seed,
        cutoffs=bench.cutoffs,
        bootstrap_samples=config.bootstrap_samples,
        train_counts=bench.train_counts,
        system=system,
        baselines=rivals,
        comparisons={rival: bench.compare(system, found) for rival, found in rivals.items()},
    )


def collect_lists(
    recommender: Recommender, cases: Cases, catalogue_size: int, k: int, exclude_history: bool
) -> tuple[NDArray[np.int64], float]:
    """The checked lists (cases, k) of all cases, and the seconds that the recommender took for them.

    Raises `ModelError` naming the first case whose list is not a ranking of the catalogue, or holds an item of
    the history although that was excluded.
    """
    lists = np.full((len(cases), k), PADDING, dtype=np.int64)
    seconds = 0.0
    for start in track(range(0, len(cases), BATCH_CASES), f"asking {recommender.name}"):
        rows = np.arange(start, min(start + BATCH_CASES, len(cases)))
        histories = cases.histories.take(rows)
        began = time.perf_counter()
        batch = recommender.recommend(histories, k, exclude_history)
        seconds += time.perf_counter() - began
        check_lists(batch, len(rows), k, catalogue_size, first_case=start)
        if exclude_history:
            known = in_history(batch, histories, catalogue_size)
            if known.any():
                row, column = (int(place[0]) for place in np.nonzero(known))
                raise ModelError(
                    f"case {start + row}: item {batch[row, column]} is in the user's history, which was to be "
                    f"excluded; mend {recommender.name}"
                )
        lists[rows] = batch
    return lists, seconds


class _Bench:
    """The cases and settings that every recommender of one evaluation shares."""

    def __init__(
        self,
        cases: Cases,
        train_counts: NDArray[np.int64],
        config: EvaluationConfig,
        item_vectors: ItemVectors | None,
        seed: int,
    ) -> None:
        self.cases = cases
        self.train_counts = train_counts
        self.cutoffs = tuple(sorted(set(config.cutoffs)))
        self.headline = headline_cutoff(self.cutoffs)
        self.samples = config.bootstrap_samples
        self.item_vectors = item_vectors
        self.seed = seed
        self.slices = slice_cases(cases, train_counts)

    def measure(self, recommender: Recommender) -> SystemResult:
        return SystemResult(recommender.name, {mode: self._measure_mode(recommender, mode) for mode in MODES})

    def _measure_mode(self, recommender: Recommender, mode: Mode) -> Measurement:
        size = len(self.train_counts)
        excluded = mode == "metrics_history_excluded"
        lists, seconds = collect_lists(recommender, self.cases, size, self.cutoffs[-1], excluded)
        ranks = target_ranks(lists, self.cases.targets)
        top = lists[:, : self.headline]
        return Measurement(
            ranks=ranks,
            exposure=exposure(top, size),
            metrics=mean_metrics(ranks, self.cutoffs),
            intervals=self._intervals(ranks, self.cutoffs),
            beyond_accuracy=beyond_accuracy(top, self.train_counts, self.item_vectors),
            slices=[self._measure_slice(one, ranks[one.cases]) for one in self.slices],
            seconds=seconds,
        )

    def _intervals(self, ranks: Ranks, cutoffs: tuple[int, ...]) -> dict[str, Interval]:
        values = per_case_metrics(ranks, cutoffs)
        found = mean_intervals(np.column_stack(list(values.values())), self.samples, self.seed)
        return dict(zip(values, found, strict=True))

    def _measure_slice(self, one: Slice, ranks: Ranks) -> SliceMetrics:
        if len(ranks) == 0:
            return SliceMetrics(one.group, one.label, 0, {}, None)
        interval = self._intervals(ranks, (self.headline,))[f"ndcg@{self.headline}"]
        return SliceMetrics(one.group, one.label, len(ranks), mean_metrics(ranks, (self.headline,)), interval)

    def compare(self, system: SystemResult, rival: SystemResult) -> dict[Mode, dict[str, Comparison]]:
        return {mode: self._compare_mode(system.modes[mode].ranks, rival.modes[mode].ranks) for mode in MODES}

    def _compare_mode(self, ours: Ranks, theirs: Ranks) -> dict[str, Comparison]:
        first, second = (per_case_metrics(ranks, (self.headline,)) for ranks in (ours, theirs))
        return {name: compare_paired(first[name], second[name], self.samples, self.seed) for name in first}


def _refuse_equal_names(recommender: Recommender, baselines: Sequence[Recommender]) -> None:
    names = [recommender.name, *(one.name for one in baselines)]
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise ModelError(f"two recommenders are called {repeated!r}; give each its own name")
