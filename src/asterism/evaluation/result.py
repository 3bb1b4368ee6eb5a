"""What an evaluation found, as typed values, and as the JSON that is kept beside a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from asterism.data.split import SplitName
from asterism.evaluation.significance import CONFIDENCE_LEVEL, Comparison, Interval

#: The two ways of asking: over all items, and over all items but those of the user's history. The names are JSON keys.
Mode = Literal["metrics", "metrics_history_excluded"]
MODES: Final[tuple[Mode, Mode]] = ("metrics", "metrics_history_excluded")
MODE_TITLES: Final[dict[Mode, str]] = {
    "metrics": "ranked over all items",
    "metrics_history_excluded": "ranked over all items, the user's history excluded",
}


@dataclass(frozen=True, slots=True)
class SliceMetrics:
    """Means over the cases of one slice; an empty slice has no metrics."""

    group: str
    label: str
    cases: int
    metrics: dict[str, float]
    interval: Interval | None  # of NDCG at the headline cutoff


@dataclass(frozen=True, slots=True)
class Measurement:
    """One recommender, asked in one mode."""

    ranks: NDArray[np.int64]  # (cases,) 0-based rank of the target, -1 where it was not listed
    exposure: NDArray[np.int64]  # (items,) lists that hold the item, at the headline cutoff
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    beyond_accuracy: dict[str, float | None]
    slices: list[SliceMetrics]
    seconds: float  # spent in the recommender


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One recommender, asked in both modes."""

    name: str
    modes: dict[Mode, Measurement]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """A recommender beside its baselines on the cases of one split."""

    dataset: str
    split: SplitName
    users: int  # who pose the cases
    cases: int
    items: int
    seed: int
    cutoffs: tuple[int, ...]
    bootstrap_samples: int
    train_counts: NDArray[np.int64]  # (items,) training events of each item
    system: SystemResult
    baselines: dict[str, SystemResult]
    comparisons: dict[str, dict[Mode, dict[str, Comparison]]]  # baseline → mode → metric → system minus baseline

    @property
    def headline_cutoff(self) -> int:
        """The cutoff of slices, exposure and comparisons."""
        return headline_cutoff(self.cutoffs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the evaluated system's at the top level, each baseline's in the same shape."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "users": self.users,
            "cases": self.cases,
            "items": self.items,
            "seed": self.seed,
            "cutoffs": list(self.cutoffs),
            "bootstrap_samples": self.bootstrap_samples,
            "confidence_level": CONFIDENCE_LEVEL,
            **_system_dict(self.system, self.cases),
            "baselines": {name: _system_dict(one, self.cases) for name, one in self.baselines.items()},
            "comparisons": {
                name: {mode: {metric: one._asdict() for metric, one in found.items()} for mode, found in modes.items()}
                for name, modes in self.comparisons.items()
            },
        }


def headline_cutoff(cutoffs: tuple[int, ...]) -> int:
    """10 where it is measured, else the largest cutoff."""
    return 10 if 10 in cutoffs else max(cutoffs)


def _system_dict(system: SystemResult, cases: int) -> dict[str, Any]:
    modes = system.modes
    return {
        "name": system.name,
        **{mode: one.metrics for mode, one in modes.items()},
        "confidence_intervals": {
            mode: {name: list(interval) for name, interval in one.intervals.items()} for mode, one in modes.items()
        },
        "beyond_accuracy": {mode: one.beyond_accuracy for mode, one in modes.items()},
        "slices": {mode: _slices_dict(one.slices) for mode, one in modes.items()},
        "seconds": sum(one.seconds for one in modes.values()),
        "seconds_per_1000_cases": {mode: one.seconds / cases * 1000.0 for mode, one in modes.items()},
    }


def _slices_dict(slices: list[SliceMetrics]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in slices:
        row: dict[str, Any] = {"label": one.label, "cases": one.cases, "metrics": one.metrics}
        if one.interval is not None:
            row["ndcg_interval"] = list(one.interval)
        groups.setdefault(one.group, []).append(row)
    return groups
