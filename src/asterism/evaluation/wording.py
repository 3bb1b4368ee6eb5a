"""How figures of an evaluation are named and said, the same on the terminal and on the page."""

from __future__ import annotations

from typing import Final

from asterism.evaluation.result import MODE_TITLES, EvaluationResult, Mode, SystemResult
from asterism.evaluation.significance import CONFIDENCE_LEVEL, Comparison

REFERENCE: Final = "popularity"
DASH: Final = "\N{EN DASH}"

_METRIC_LABELS: Final = {"recall": "Recall/HR", "ndcg": "NDCG", "mrr": "MRR"}
_BEYOND_LABELS: Final = {
    "coverage": "Coverage",
    "gini": "Gini of exposure",
    "novelty": "Novelty (bits)",
    "long_tail_share": "Long-tail share",
    "diversity": "Diversity",
}


def systems_of(result: EvaluationResult) -> list[SystemResult]:
    """The evaluated recommender, then its baselines."""
    return [result.system, *result.baselines.values()]


def shown_metrics(result: EvaluationResult) -> list[str]:
    """The metrics that tables print: all but HR, which equals Recall where a case has one target."""
    return [name for name in result.system.modes["metrics"].metrics if not name.startswith("hr@")]


def metric_label(name: str) -> str:
    """`ndcg@10` → `NDCG@10`; recall is labelled with its other name."""
    metric, _, cutoff = name.partition("@")
    return f"{_METRIC_LABELS[metric]}@{cutoff}"


def beyond_labels(result: EvaluationResult, mode: Mode) -> list[tuple[str, str]]:
    """Keys and labels of what was measured beyond accuracy."""
    names = result.system.modes[mode].beyond_accuracy
    return [(name, f"{_BEYOND_LABELS[name.partition('@')[0]]} @{name.partition('@')[2]}") for name in names]


def cases_phrase(result: EvaluationResult) -> str:
    """How many cases were asked: as many as users, unless a user poses several."""
    users = f"{result.users:,} user{'' if result.users == 1 else 's'}"
    return users if result.cases == result.users else f"{result.cases:,} cases of {users}"


def format_value(value: float | None) -> str:
    """Four decimals, or a dash where there is no value."""
    return DASH if value is None else f"{value:.4f}"


def headline_sentence(result: EvaluationResult, mode: Mode) -> str:
    """How many times popularity's NDCG the recommender reaches in a mode, and how sure that is."""
    name = f"ndcg@{result.headline_cutoff}"
    ours = result.system.modes[mode].metrics[name]
    start = f"{metric_label(name)}, {MODE_TITLES[mode]}: {result.system.name} reaches {ours:.4f}"
    if REFERENCE not in result.baselines:
        return f"{start}; {REFERENCE} was not measured beside it."
    theirs = result.baselines[REFERENCE].modes[mode].metrics[name]
    sure = comparison_phrase(result.comparisons[REFERENCE][mode][name], result.bootstrap_samples)
    if theirs == 0:
        return f"{start}, {REFERENCE} 0, so no ratio can be told ({sure})."
    return f"{start}, {ours / theirs:.2f} times the {theirs:.4f} of {REFERENCE} ({sure})."


def comparison_phrase(one: Comparison, samples: int) -> str:
    """A difference, its interval and its p-value; the smallest p that the samples can show is given as a bound."""
    bound = 1 / (samples + 1)
    p_value = f"p ≤ {one.p_value:.2g}" if one.p_value <= bound else f"p = {one.p_value:.2g}"
    level = f"{CONFIDENCE_LEVEL:.0%}"
    return f"difference {one.difference:+.4f}, {level} interval {one.low:+.4f} to {one.high:+.4f}, {p_value}"
