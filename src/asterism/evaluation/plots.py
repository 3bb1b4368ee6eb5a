"""The report's figures as inline SVG whose colours are the page's, so that they follow its light or dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from asterism.evaluation.result import MODES, EvaluationResult, Mode
from asterism.evaluation.wording import metric_label, systems_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SERIES = 6
#: Stand-ins that matplotlib draws with and that become the page's CSS variables.
_INK, _MUTED, _LINE = "#010101", "#020202", "#030303"
_CSS_OF: Final = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    **{f"#0500{place:02x}": f"var(--series-{place})" for place in range(_SERIES)},
}
_BAR_LABEL: Final[dict[str, Any]] = {"ha": "center", "fontsize": 8, "color": _MUTED}
_PANEL_TITLES: Final[dict[Mode, str]] = {"metrics": "all items", "metrics_history_excluded": "history excluded"}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "asterism",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.constrained_layout.wspace": 0.06,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
}


def series_color(place: int) -> str:
    """The stand-in of the colour of the system at a place; places beyond the palette begin anew."""
    return f"#0500{place % _SERIES:02x}"


def metric_bars(result: EvaluationResult) -> str:
    """Recall and NDCG at the headline cutoff, a bar a system with its interval, a panel a mode."""
    names = [f"{metric}@{result.headline_cutoff}" for metric in ("recall", "ndcg")]

    def draw(axes: Axes, mode: Mode) -> None:
        measured = [system.modes[mode] for system in systems_of(result)]
        width = 0.8 / len(measured)
        for place, one in enumerate(measured):
            at = np.arange(len(names)) + (place - (len(measured) - 1) / 2) * width
            heights = np.array([one.metrics[name] for name in names])
            ends = np.array([one.intervals[name] for name in names])
            # A percentile interval of a tiny sample may miss its own mean; a whisker has no negative length.
            whiskers = np.maximum(np.stack([heights - ends[:, 0], ends[:, 1] - heights]), 0.0)
            axes.bar(at, heights, width * 0.9, color=series_color(place))
            axes.errorbar(at, heights, whiskers, fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
            for x, top, height in zip(at, heights + whiskers[1], heights, strict=True):
                axes.annotate(f"{height:.3f}", (x, top), (0, 3), textcoords="offset points", **_BAR_LABEL)
        axes.set_xticks(np.arange(len(names)), [metric_label(name) for name in names])
        axes.margins(y=0.12)
        axes.grid(axis="y")

    return _panels(draw, "Recall and NDCG of each system")


def recall_curves(result: EvaluationResult) -> str:
    """Recall at every cutoff, a line a system, a panel a mode."""

    def draw(axes: Axes, mode: Mode) -> None:
        for place, system in enumerate(systems_of(result)):
            heights = [system.modes[mode].metrics[f"recall@{k}"] for k in result.cutoffs]
            axes.plot(result.cutoffs, heights, marker="o", markersize=4, linewidth=2, color=series_color(place))
        axes.set_xscale("log")
        axes.set_xticks(result.cutoffs, [str(k) for k in result.cutoffs])
        axes.minorticks_off()
        axes.set_xlabel("k")
        axes.set_ylabel("Recall@k")
        axes.set_ylim(bottom=0)
        axes.grid()

    return _panels(draw, "Recall by cutoff")


def slice_bars(result: EvaluationResult) -> str:
    """NDCG by history length and by target popularity with the history excluded, a bar a system."""
    mode: Mode = "metrics_history_excluded"
    groups = ("history_length", "target_popularity")
    titles = ("by events in the history", "by training events of the target")
    name = f"ndcg@{result.headline_cutoff}"
    with _style():
        figure = _figure()
        for panel, (group, title) in enumerate(zip(groups, titles, strict=True)):
            axes = figure.add_subplot(1, len(groups), panel + 1)
            systems = systems_of(result)
            width = 0.8 / len(systems)
            for place, system in enumerate(systems):
                slices = [one for one in system.modes[mode].slices if one.group == group]
                at = np.arange(len(slices)) + (place - (len(systems) - 1) / 2) * width
                axes.bar(at, [one.metrics.get(name, 0.0) for one in slices], width * 0.9, color=series_color(place))
                axes.set_xticks(np.arange(len(slices)), [f"{one.label}\n{_short(one.cases)}" for one in slices])
            axes.tick_params(axis="x", labelsize=8)
            axes.set_title(title)
            axes.set_ylabel(metric_label(name))
            axes.grid(axis="y")
        return _svg(figure, "NDCG by slice")


def exposure_plot(result: EvaluationResult) -> str:
    """Which share of the lists goes to the most popular share of the catalogue, a line a system, a panel a mode."""
    order = np.argsort(-result.train_counts, kind="stable")

    def draw(axes: Axes, mode: Mode) -> None:
        axes.plot(*_cumulated(result.train_counts[order]), color=_MUTED, linestyle="--", linewidth=1.5)
        for place, system in enumerate(systems_of(result)):
            axes.plot(*_cumulated(system.modes[mode].exposure[order]), color=series_color(place), linewidth=2)
        axes.set_xlabel("share of the catalogue, most popular first")
        axes.set_ylabel(f"share of the places in top {result.headline_cutoff}")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid()

    return _panels(draw, "Exposure by popularity")


def _cumulated(counts: NDArray[np.int64], points: int = 101) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = max(1, int(counts.sum()))
    shares = np.concatenate([[0.0], np.cumsum(counts) / total])
    # Squared, so that the steep beginning of the curve gets most of the points.
    places = np.unique(np.round(np.linspace(0.0, 1.0, points) ** 2 * len(counts)).astype(np.int64))
    return places / len(counts), shares[places]


def _short(cases: int) -> str:
    return f"{cases / 1000:.1f}k" if cases >= 1000 else str(cases)


def _panels(draw: Callable[[Axes, Mode], None], title: str) -> str:
    """One panel a mode, on one scale."""
    with _style():
        figure = _figure()
        first: Axes | None = None
        for place, mode in enumerate(MODES):
            axes = figure.add_subplot(1, len(MODES), place + 1, sharey=first)
            axes.set_title(_PANEL_TITLES[mode])
            draw(axes, mode)
            first = first or axes
        return _svg(figure, title)


def _style() -> AbstractContextManager[None]:
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def _figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(10, 3.4), layout="constrained")


def _svg(figure: Figure, title: str) -> str:
    stream = io.StringIO()
    nameless = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nameless)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    return re.sub(r"#0[0-9a-f]{5}", lambda found: _CSS_OF.get(found[0], found[0]), svg)
