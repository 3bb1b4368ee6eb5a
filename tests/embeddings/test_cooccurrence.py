"""Co-occurrence vectors: counts and PMI by hand, and two communities that must come apart."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from asterism.core.errors import DataError
from asterism.data.sequences import Sequences
from asterism.embeddings.cooccurrence import cooccurrence_counts, cooccurrence_part, positive_pmi


def sequences(*rows: list[int]) -> Sequences:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Sequences(offsets, items, np.zeros(len(items), np.int64), np.zeros(len(items), np.int8))


def test_counts_by_hand() -> None:
    counts = cooccurrence_counts(sequences([0, 1, 2], [2, 2, 0], [3]), items=4).toarray()
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 2] = 1.0
    expected[0, 2] = 1 / 2 + 1 / 2 + 1.0  # first row at distance 2, second row at distances 2 and 1
    assert_allclose(counts, expected + expected.T)


def test_items_farther_than_the_window_do_not_count() -> None:
    counts = cooccurrence_counts(sequences([0, 1, 2, 3, 4, 5, 6]), items=7).toarray()
    assert_allclose(counts[0, 5], 1 / 5)
    assert counts[0, 6] == 0


def test_positive_pmi_by_hand() -> None:
    counts = sp.csr_array(np.array([[0.0, 16.0, 0.0], [16.0, 0.0, 65.0], [0.0, 65.0, 0.0]]))
    smoothed = np.array([16.0, 81.0, 65.0]) ** 0.75
    pmi = positive_pmi(counts).toarray()
    assert_allclose(pmi[0, 1], np.log(16 * smoothed.sum() / (16 * 81**0.75)))
    assert_allclose(pmi[1, 2], np.log(65 * smoothed.sum() / (81 * 65**0.75)))
    assert pmi[0, 2] == 0


def test_two_communities_come_apart() -> None:
    rng = np.random.default_rng(0)
    rows = [[*(rng.integers(0, 10, size=8) + 10 * (user % 2))] for user in range(200)]
    vectors = cooccurrence_part(sequences(*rows), items=20, width=4, seed=0).vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    same = np.kron(np.eye(2), np.ones((10, 10))).astype(bool)
    assert cosines[same].mean() > cosines[~same].mean() + 0.3


@pytest.mark.parametrize("users", [20, 1000])
def test_equal_input_gives_equal_vectors(users: int) -> None:
    """With 1,000 users the sparse solver runs, whose start is drawn from the seed."""
    rng = np.random.default_rng(1)
    train = sequences(*[list(rng.integers(0, users // 2 + 5, size=6)) for _ in range(users)])
    first, second = (cooccurrence_part(train, users // 2 + 5, 8, seed=4) for _ in range(2))
    assert_array_equal(first.vectors, second.vectors)
    assert first.width == 8


def test_an_item_beside_no_other_is_missing() -> None:
    part = cooccurrence_part(sequences([0, 1], [2], [3, 3]), items=5, width=4, seed=0)
    assert part.present.tolist() == [True, True, False, False, False]
    assert not cooccurrence_part(sequences([]), items=2, width=4, seed=0).present.any()


def test_an_item_beyond_the_catalogue_is_refused() -> None:
    with pytest.raises(DataError, match="name item 7, but the catalogue has 3"):
        cooccurrence_part(sequences([0, 7]), items=3, width=2, seed=0)
