"""Figures worked out by hand, and pictures that are pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from asterism.data.dataset import Dataset
from asterism.data.description import describe, gini
from asterism.data.description_plots import plot_dataset


def make() -> Dataset:
    interactions = pa.table(
        {
            "user_id": ["u", "u", "u", "v"],
            "item_id": ["a", "a", "b", "x"],
            "timestamp": [1_600_000_000, 1_600_000_100, 1_600_000_200, 1_600_086_400],
            "action": ["click", "purchase", "click", "click"],
        }
    )
    items = pa.table(
        {"item_id": ["a", "b", "c", "x"], "title": ["A", None, "C", None], "brand": [None, "B", "C", None]}
    )
    return Dataset(interactions, items)


def test_figures() -> None:
    one = describe(make())
    assert (one.users, one.items, one.events) == (2, 4, 4)
    assert one.density == pytest.approx(3 / 8)
    assert one.events_per_user["0.5"] == 2.0
    assert one.events_per_item["1"] == 2.0
    assert one.actions == {"click": 3, "purchase": 1}
    assert (one.first_timestamp, one.last_timestamp) == (1_600_000_000, 1_600_086_400)
    assert one.popularity_gini == pytest.approx(2 * (1 * 0 + 2 * 1 + 3 * 1 + 4 * 2) / (4 * 4) - 5 / 4)
    assert one.untouched_items_share == 0.25
    assert one.unknown_items_share == 0.25
    assert one.missing_item_fields == {"title": 0.5, "brand": 0.5}


def test_gini_at_its_ends() -> None:
    assert gini(np.array([3, 3, 3])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert gini(np.array([0, 0])) == 0.0


@pytest.mark.parametrize("shift", [0, -1_600_000_000])
def test_plots(tmp_path: Path, shift: int) -> None:
    dataset = make()
    times = pa.array(dataset.interactions["timestamp"].to_numpy() + shift)
    moved = Dataset(dataset.interactions.set_column(2, "timestamp", times), dataset.items)
    for file in plot_dataset(moved, tmp_path):
        assert file.read_bytes().startswith(b"\x89PNG")
