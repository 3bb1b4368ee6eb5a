"""Reports of semantic ids as JSON, and as one HTML page that needs nothing but itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asterism.core.errors import MissingDependencyError
from asterism.semantic_ids.report import LevelReport, SemanticIdReport, geometry_lines

TEMPLATES = Path(__file__).parent / "templates"

_PLOTS: dict[str, Callable[[LevelReport], float | None]] = {
    "evenness of use (perplexity ÷ codes)": lambda level: level.perplexity / level.codebook_size,
    "squared error left ÷ variance": lambda level: level.relative_error,
    "mean children of a prefix": lambda level: level.mean_children,
    "category purity of prefixes": lambda level: level.purity,
}


def report_json(reports: Mapping[str, SemanticIdReport]) -> str:
    """All numbers of named reports."""
    return json.dumps({name: asdict(one) for name, one in reports.items()}, indent=2, ensure_ascii=False)


def report_html(reports: Mapping[str, SemanticIdReport]) -> str:
    """Named reports side by side; raises `MissingDependencyError` where the `report` extra is not installed."""
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"an HTML report needs {error.name}; install it with `pip install asterism[report]`"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    context: dict[str, Any] = {
        "reports": reports,
        "lines": {name: geometry_lines(one) for name, one in reports.items()},
        "letters": "abcdefghijklmnopqrstuvwxyz",
        "plots": _plots(reports),
    }
    return environment.get_template("semantic_ids.html.j2").render(context)


def _plots(reports: Mapping[str, SemanticIdReport]) -> str:
    """One panel a figure and a line a report, over the levels, as inline SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "asterism", "font.size": 9}):
        figure = Figure(figsize=(11, 2.8), layout="constrained")
        shown = {
            title: of
            for title, of in _PLOTS.items()
            if any(_points(one.levels[:-1], of)[0] for one in reports.values())
        }
        for panel, (title, value_of) in enumerate(shown.items(), start=1):
            axes = figure.add_subplot(1, len(shown), panel)
            axes.set_title(title, fontsize=9)
            for name, one in reports.items():
                letters, heights = _points(one.levels[:-1], value_of)
                axes.plot(letters, heights, marker="o", label=name)
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
            axes.grid(alpha=0.3)
        if len(reports) > 1:
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    return svg[svg.index("<svg") :]


def _points(
    levels: tuple[LevelReport, ...], value_of: Callable[[LevelReport], float | None]
) -> tuple[list[str], list[float]]:
    known = [(chr(ord("a") + place), value_of(level)) for place, level in enumerate(levels)]
    return [letter for letter, value in known if value is not None], [value for _, value in known if value is not None]
