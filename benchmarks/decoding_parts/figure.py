"""The sweeps as a figure: time above, memory below."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PANELS: Final = {
    "catalogue": "items in the catalogue (search alone)",
    "beam": "beam",
    "history": "events of a history",
    "batch": "requests a batch",
}
COLOURS: Final = {1: "tab:blue", 32: "tab:orange"}


def plot(points: list[dict[str, Any]], title: str, file: Path) -> None:
    """CPU time and memory by what grows, both axes logarithmic."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(13, 6.4), layout="constrained")
    panels = figure.subplots(2, len(PANELS), sharex="col", sharey="row")
    for (upper, lower), (sweep, label) in zip(panels.T, PANELS.items(), strict=True):
        _lines(upper, [one for one in points if one["sweep"].startswith(sweep)], "median_us", 1e-3)
        _lines(lower, [one for one in points if one["sweep"].startswith(sweep)], "memory_mb", 1.0)
        lower.set_xlabel(label)
        for axis in (upper.yaxis, lower.yaxis, lower.xaxis):
            axis.set_major_formatter(FuncFormatter(lambda number, _: _short(number)))
            axis.set_minor_formatter(NullFormatter())
    panels[0, 0].set_ylabel("CPU time a request, ms")
    panels[1, 0].set_ylabel("memory, MB")
    handles = {text: line for panel in panels[0] for line, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    figure.suptitle(title)
    figure.savefig(file, dpi=130)


def _lines(panel: Any, points: list[dict[str, Any]], field: str, scale: float) -> None:
    for sweep, batch in dict.fromkeys((one["sweep"], _series(one)) for one in points):
        line = [one for one in points if (one["sweep"], _series(one)) == (sweep, batch)]
        windows = sweep.endswith("windows")
        name = "as many at a time as the axis says" if batch is None else f"{batch} at a time"
        panel.plot(
            [one["value"] for one in line],
            [scale * _value(one, field) for one in line],
            marker="s" if windows else "o",
            linestyle="--" if windows else "-",
            color=COLOURS.get(batch or 0, "tab:green"),
            label=f"{name}, 50 events and 8 windows" if windows else name,
        )
    panel.set(xscale="log", yscale="log")
    panel.grid(alpha=0.3, which="both")


def _short(number: float) -> str:
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _series(one: dict[str, Any]) -> int | None:
    return None if one["sweep"] == "batch" else int(one["batch"])


def _value(one: dict[str, Any], field: str) -> float:
    return float(one["held_mb"] + one["working_mb"] if field == "memory_mb" else one[field])
