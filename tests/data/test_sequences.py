"""Rows of events: pairs within a row."""

from __future__ import annotations

import numpy as np

from asterism.data.sequences import Sequences


def test_pairs_apart_stay_within_their_row() -> None:
    items = np.array([4, 5, 6, 7, 8], dtype=np.int32)
    rows = Sequences(np.array([0, 3, 3, 5]), items, np.arange(5), np.ones(5, dtype=np.int8))
    found = {distance: [one.tolist() for one in rows.pairs_apart(distance)] for distance in (1, 2, 3, 9)}
    assert found == {1: [[4, 5, 7], [5, 6, 8]], 2: [[4], [6]], 3: [[], []], 9: [[], []]}
