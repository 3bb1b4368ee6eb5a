"""Balanced k-means: bounded clusters, against an exact assignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from asterism.config import SemanticIdConfig
from asterism.semantic_ids.balanced import balanced_kmeans, balancing_prices, size_limit
from asterism.semantic_ids.kmeans import assign_codes
from asterism.semantic_ids.residual import fit_balanced_residual_kmeans, fit_residual_kmeans


def skewed(rows: int, seed: int) -> NDArray[np.float64]:
    """A crowd around one point and a thin cloud around it, as residuals of real vectors are."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 12)) * rng.lognormal(0, 0.7, size=(rows, 1))


@pytest.mark.parametrize(("rows", "codes", "limit"), [(1000, 10, 120), (10, 8, 2), (40, 16, 3), (7, 7, 1), (3, 1, 3)])
def test_the_limit_by_hand(rows: int, codes: int, limit: int) -> None:
    assert size_limit(rows, codes) == limit


@pytest.mark.parametrize("seed", range(2))
def test_no_cluster_of_any_level_is_larger_than_a_fifth_above_the_mean(seed: int) -> None:
    vectors = skewed(1200, seed)
    config = SemanticIdConfig(method="balanced-rq-kmeans", codes=32, iterations=10)
    codes = fit_balanced_residual_kmeans(vectors, config, seed).assign(vectors)
    largest = [np.bincount(codes[:, level], minlength=32).max() for level in range(3)]
    assert max(largest) <= size_limit(1200, 32) == 45
    plain = fit_residual_kmeans(vectors, config, seed).assign(vectors)
    assert np.bincount(plain[:, 0]).max() > 80


def test_the_prices_are_near_the_exact_balanced_assignment() -> None:
    """Against the optimum over 60 rows and 5 clusters of at most 14, each cluster being 14 columns."""
    vectors = skewed(60, 4).astype(np.float32)
    centroids = vectors[:5].copy()
    distances = np.square(vectors[:, None] - centroids).sum(axis=2, dtype=np.float64)
    rows, columns = linear_sum_assignment(np.repeat(distances, 14, axis=1))
    optimum = distances[rows, columns // 14].sum()
    prices = balancing_prices(torch.from_numpy(vectors), torch.from_numpy(centroids))
    codes = assign_codes(torch.from_numpy(vectors), torch.from_numpy(centroids), prices)
    assert np.bincount(codes, minlength=5).max() <= 14
    assert optimum <= distances[np.arange(60), codes].sum() <= 1.1 * optimum


def test_clusters_that_are_small_enough_stay_free_of_charge() -> None:
    vectors = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    assert balancing_prices(vectors, torch.tensor([[0.0], [5.0]])).tolist() == [0.0, 0.0]


def test_a_crowd_of_equal_rows_leaves_the_other_clusters_balanced() -> None:
    """Items of which nothing is known share one vector; no price parts them."""
    vectors = torch.randn(1500, 16, generator=torch.Generator().manual_seed(0))
    vectors[:300] = 0.0
    vectors[100:200] *= -1.0  # minus zero is zero
    centroids, prices = balanced_kmeans(vectors, 30, 10, torch.Generator().manual_seed(1))
    codes = assign_codes(vectors, centroids, prices)
    assert len(set(codes[:300])) == 1
    sizes = np.bincount(codes, minlength=30)
    sizes[codes[0]] -= 300
    assert sizes.max() <= size_limit(1500, 30)


def test_rows_that_are_equal_stay_together() -> None:
    vectors = torch.cat([torch.zeros(50, 2), torch.randn(10, 2, generator=torch.Generator().manual_seed(0))])
    prices = balancing_prices(vectors, vectors[[0, 51, 52]])
    assert len(set(assign_codes(vectors, vectors[[0, 51, 52]], prices)[:50].tolist())) == 1
