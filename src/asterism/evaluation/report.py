"""An evaluation for people and machines: a table on the terminal, a JSON file, one HTML page."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asterism.core.errors import StorageError
from asterism.evaluation.html import render_html
from asterism.evaluation.result import MODE_TITLES, MODES, EvaluationResult, Measurement, Mode
from asterism.evaluation.wording import (
    beyond_labels,
    cases_phrase,
    format_value,
    headline_sentence,
    metric_label,
    shown_metrics,
    systems_of,
)


def print_table(result: EvaluationResult, console: Console | None = None) -> None:
    """Print, for each mode, the recommender beside its baselines, and how it compares with popularity, in words."""
    out = console or Console()
    for mode in MODES:
        out.print(Text(f"{result.dataset}, {result.split}, {cases_phrase(result)}: {MODE_TITLES[mode]}"), style="bold")
        out.print(_mode_table(result, mode))
    for mode in MODES:
        out.print(Text(headline_sentence(result, mode)), soft_wrap=True)


def write_outputs(result: EvaluationResult, json_path: Path | None = None, html_path: Path | None = None) -> None:
    """Write the JSON file and the self-contained HTML page, each where a path is given.

    Raises `StorageError` where a file cannot be written and `MissingDependencyError` where the page needs the
    `report` extra.
    """
    if json_path is not None:
        _write(json_path, json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
    if html_path is not None:
        _write(html_path, render_html(result))


def _mode_table(result: EvaluationResult, mode: Mode) -> Table:
    table = Table()
    table.add_column("metric")
    systems = [system.modes[mode] for system in systems_of(result)]
    for system in systems_of(result):
        table.add_column(Text(system.name), justify="right")
    for name in shown_metrics(result):
        table.add_row(metric_label(name), *(_cell(one, name, systems) for one in systems))
    table.add_section()
    for name, label in beyond_labels(result, mode):
        table.add_row(label, *(format_value(one.beyond_accuracy[name]) for one in systems))
    table.add_row("seconds / 1000 cases", *(f"{one.seconds / result.cases * 1000:.3f}" for one in systems))
    return table


def _cell(one: Measurement, name: str, systems: list[Measurement]) -> Text:
    best = max(system.metrics[name] for system in systems)
    return Text(format_value(one.metrics[name]), style="bold" if one.metrics[name] == best and best > 0 else "")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); name another place") from error
