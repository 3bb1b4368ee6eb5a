"""The best of many, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import ModelError
from asterism.decoding.selection import by_position, select_top


def test_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0], [5.0, -torch.inf, -torch.inf, -torch.inf, -torch.inf]])
    values, positions = select_top(scores, 2, by_position)
    assert positions[0].tolist() == [1, 2]
    assert values.tolist() == [[3.0, 3.0], [5.0, -np.inf]]
    assert select_top(scores, 2, lambda rows, places: -places)[1][0].tolist() == [4, 2]
    assert select_top(scores, 9, by_position)[1][0].tolist() == [1, 2, 4, 3, 0]


@settings(max_examples=200)
@given(data=st.data(), rows=st.integers(1, 5), width=st.integers(1, 30), count=st.integers(1, 35))
def test_agrees_with_a_sort(data: st.DataObject, rows: int, width: int, count: int) -> None:
    seed = data.draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    scores = random.integers(0, 6, size=(rows, width)).astype(np.float32)
    scores[random.random((rows, width)) < 0.2] = -np.inf
    keys = np.stack([random.permutation(width) for _ in range(rows)])
    values, positions = select_top(torch.from_numpy(scores), count, lambda at, places: keys[at, places])
    for row in range(rows):
        order = sorted(range(width), key=lambda place: (-scores[row, place], keys[row, place]))[:count]
        finite = int(np.isfinite(scores[row, order]).sum())
        assert positions[row, :finite].tolist() == order[:finite]
        assert values[row].tolist() == scores[row, order].tolist()


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ModelError, match="score of row 1 is not a number"):
        select_top(torch.tensor([[1.0, 2.0], [1.0, torch.nan]]), 1, by_position)
