"""Joint refinement by hand, and codebooks that were found on a sample of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.semantic_ids import kmeans, residual
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.refinement import refine
from asterism.semantic_ids.residual import fit_balanced_residual_kmeans, fit_residual_kmeans


def error_of(codebooks: Codebooks, vectors: NDArray[np.float64]) -> float:
    return float(np.square(vectors - codebooks.reconstruct(codebooks.assign(vectors))).sum())


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_SAMPLE_ROWS", 400)
    monkeypatch.setattr(kmeans, "_SAMPLE_ROWS_PER_CODE", 1)


def cloud(rows: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 12))[rng.integers(0, 40, rows)] * 3 + rng.normal(size=(rows, 12)) + 5.0


def test_a_move_by_hand() -> None:
    """Two rows at 3, one centroid at 0 on each of two levels: (4 2; 2 4) × moves = (6, 6), so each moves by 1."""
    moved = refine(torch.full((2, 1), 3.0), [torch.zeros(1, 1), torch.zeros(1, 1)], passes=1)
    assert [level.tolist() for level in moved] == [[[1.0]], [[1.0]]]


def test_a_code_without_rows_stays() -> None:
    vectors = torch.tensor([[0.0], [0.2], [4.0], [4.4]])
    first, second = refine(vectors, [torch.tensor([[0.0], [4.0], [99.0]]), torch.tensor([[0.0], [77.0]])], passes=3)
    assert (first[2], second[1]) == (99.0, 77.0)
    assert first[0] != 0.0


def test_the_error_never_grows() -> None:
    vectors = cloud(600)
    plain = fit_residual_kmeans(vectors, SemanticIdConfig(codes=8, iterations=3), seed=0)
    levels = [torch.from_numpy(level) for level in plain.centroids]
    rows = torch.from_numpy(vectors.astype(np.float32))
    errors = [
        error_of(Codebooks(tuple(level.numpy() for level in refine(rows, levels, passes))), vectors)
        for passes in range(6)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == error_of(plain, vectors)
    assert errors[5] < 0.99 * errors[0]


@pytest.mark.usefixtures("small_sample")
def test_a_sample_of_25_rows_a_code_does_nearly_as_well_as_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, config = cloud(6000), SemanticIdConfig(codes=16, iterations=10)
    sampled = error_of(fit_residual_kmeans(vectors, config, seed=0), vectors)
    monkeypatch.setattr(residual, "_PASSES", 0)
    assert sampled < 0.97 * error_of(fit_residual_kmeans(vectors, config, seed=0), vectors)
    monkeypatch.setattr(kmeans, "_SAMPLE_ROWS", len(vectors))
    assert sampled < 1.03 * error_of(fit_residual_kmeans(vectors, config, seed=0), vectors)


@pytest.mark.usefixtures("small_sample")
def test_balance_holds_on_all_rows_though_centroids_come_from_a_sample() -> None:
    vectors = cloud(6000)
    config = SemanticIdConfig(method="balanced-rq-kmeans", codes=16, iterations=10)
    codes = fit_balanced_residual_kmeans(vectors, config, seed=0).assign(vectors)
    assert max(np.bincount(codes[:, level]).max() for level in range(3)) <= 1.2 * 6000 / 16


@pytest.mark.usefixtures("small_sample")
def test_what_was_given_is_left_as_it_was() -> None:
    vectors = cloud(1000).astype(np.float32)
    vectors.flags.writeable = False
    before = vectors.copy()
    for fit in (fit_residual_kmeans, fit_balanced_residual_kmeans):
        fit(vectors, SemanticIdConfig(codes=8, iterations=3), seed=0).assign(vectors)
        assert_array_equal(vectors, before)


def test_a_drawn_row_keeps_its_place_in_the_order() -> None:
    rows = torch.arange(100_000.0)[:, None]
    drawn = kmeans.drawn_rows(rows, 256, torch.Generator().manual_seed(0))[:, 0]
    assert len(drawn) == 65_536
    assert_allclose(drawn.sort().values, drawn)
    assert kmeans.drawn_rows(rows, 512, torch.Generator()) is rows  # 256 for each code are more than there are
