"""The evaluation as one HTML page that needs nothing but itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asterism.core.errors import MissingDependencyError
from asterism.evaluation.plots import exposure_plot, metric_bars, recall_curves, slice_bars
from asterism.evaluation.result import MODE_TITLES, MODES, EvaluationResult, Mode
from asterism.evaluation.significance import CONFIDENCE_LEVEL
from asterism.evaluation.wording import (
    beyond_labels,
    cases_phrase,
    comparison_phrase,
    format_value,
    headline_sentence,
    metric_label,
    shown_metrics,
    systems_of,
)

TEMPLATES = Path(__file__).parent / "templates"


def render_html(result: EvaluationResult) -> str:
    """The page as text; raises `MissingDependencyError` where the `report` extra is not installed."""
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"an HTML report needs {error.name}; install it with `pip install asterism[report]`"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_context(result))


def _context(result: EvaluationResult) -> dict[str, Any]:
    return {
        "result": result,
        "cases": cases_phrase(result),
        "systems": [system.name for system in systems_of(result)],
        "level": f"{CONFIDENCE_LEVEL:.0%}",
        "sentences": [headline_sentence(result, mode) for mode in MODES],
        "modes": [_mode_context(result, mode) for mode in MODES],
        "bars": metric_bars(result),
        "curves": recall_curves(result),
        "slices": slice_bars(result),
        "exposure": exposure_plot(result),
    }


def _mode_context(result: EvaluationResult, mode: Mode) -> dict[str, Any]:
    return {
        "title": MODE_TITLES[mode],
        "metrics": [_metric_row(result, mode, name) for name in shown_metrics(result)],
        "beyond": [
            {
                "label": label,
                "cells": [format_value(system.modes[mode].beyond_accuracy[name]) for system in systems_of(result)],
            }
            for name, label in beyond_labels(result, mode)
        ],
        "seconds": [f"{one.modes[mode].seconds / result.cases * 1000:.3f}" for one in systems_of(result)],
        "slices": _slice_rows(result, mode),
        "comparisons": [
            (rival, metric_label(metric), comparison_phrase(one, result.bootstrap_samples))
            for rival, modes in result.comparisons.items()
            for metric, one in modes[mode].items()
            if metric.startswith("ndcg")
        ],
    }


def _metric_row(result: EvaluationResult, mode: Mode, name: str) -> dict[str, Any]:
    measured = [system.modes[mode] for system in systems_of(result)]
    best = max(one.metrics[name] for one in measured)
    return {
        "label": metric_label(name),
        "family": name.partition("@")[0],
        "cells": [
            {
                "value": format_value(one.metrics[name]),
                "interval": f"{one.intervals[name].low:.4f} to {one.intervals[name].high:.4f}",
                "best": one.metrics[name] == best and best > 0,
            }
            for one in measured
        ],
    }


def _slice_rows(result: EvaluationResult, mode: Mode) -> list[dict[str, Any]]:
    name = f"ndcg@{result.headline_cutoff}"
    columns = [system.modes[mode].slices for system in systems_of(result)]
    return [
        {
            "group": row[0].group.replace("_", " "),
            "label": row[0].label,
            "cases": row[0].cases,
            "cells": [format_value(one.metrics.get(name)) for one in row],
        }
        for row in zip(*columns, strict=True)
    ]
