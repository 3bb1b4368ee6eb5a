"""Pictures of a data set: history lengths, item popularity, events over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asterism.core import records
from asterism.data.dataset import Dataset
from asterism.data.description import history_lengths, item_counts

_BINS = 40
_SECONDS_PER_DAY = 86_400


def plot_dataset(dataset: Dataset, folder: Path) -> list[Path]:
    """Write three PNG files into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _history_lengths(dataset, folder / "history_lengths.png"),
        _item_popularity(dataset, folder / "item_popularity.png"),
        _events_over_time(dataset, folder / "events_over_time.png"),
    ]


def _history_lengths(dataset: Dataset, file: Path) -> Path:
    lengths = history_lengths(dataset)
    figure, axes = _canvas("Events per user", "events of a user (log scale)", "users")
    edges = np.unique(np.round(np.geomspace(1, lengths.max() + 1, _BINS)))
    axes.hist(lengths, bins=edges.tolist() if len(edges) > 1 else 1)
    axes.set_xscale("log")
    return _saved(figure, file)


def _item_popularity(dataset: Dataset, file: Path) -> Path:
    counts = np.sort(item_counts(dataset))[::-1]
    touched = counts[counts > 0]
    figure, axes = _canvas("Item popularity", "rank of the item (log scale)", "events (log scale)")
    axes.plot(np.arange(1, len(touched) + 1), touched)
    axes.set_xscale("log")
    axes.set_yscale("log")
    return _saved(figure, file)


def _events_over_time(dataset: Dataset, file: Path) -> Path:
    timestamps = dataset.interactions[records.TIMESTAMP].to_numpy()
    in_days = int(timestamps.max()) > _SECONDS_PER_DAY * 365
    figure, axes = _canvas("Events over time", "time" if in_days else "timestamp", "events")
    axes.hist(timestamps.astype("datetime64[s]") if in_days else timestamps, bins=_BINS)
    figure.autofmt_xdate()
    return _saved(figure, file)


def _canvas(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _saved(figure: Figure, file: Path) -> Path:
    figure.savefig(file, dpi=120)
    return file
