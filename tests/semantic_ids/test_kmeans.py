"""k-means against known clusters, a slow twin, and hard inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from asterism.semantic_ids.kmeans import assign_codes, kmeans


def fitted(vectors: NDArray[np.float32], codes: int, seed: int = 0) -> NDArray[np.float32]:
    generator = torch.Generator().manual_seed(seed)
    return kmeans(torch.from_numpy(vectors), codes, iterations=25, generator=generator).numpy()


def slow_assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> list[int]:
    nearest = []
    for row in vectors.astype(np.float64):
        distances = [float(((row - one) ** 2).sum()) for one in centroids.astype(np.float64)]
        nearest.append(distances.index(min(distances)))
    return nearest


def test_the_centroids_of_two_pairs_are_their_middles() -> None:
    vectors = np.array([[0, 0], [0, 2], [10, 0], [10, 4]], dtype=np.float32)
    assert sorted(fitted(vectors, 2).tolist()) == [[0.0, 1.0], [10.0, 2.0]]


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_assignment_agrees_with_its_slow_twin(offset: float) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(300, 6)) + offset).astype(np.float32)
    centroids = np.concatenate([vectors[:20], vectors[:5]])  # five centroids twice: the lower index wins
    assert assign_codes(torch.from_numpy(vectors), torch.from_numpy(centroids)).tolist() == slow_assign(
        vectors, centroids
    )


def test_a_tie_goes_to_the_lowest_code() -> None:
    centroids = torch.tensor([[1.0], [-1.0], [1.0]])
    assert assign_codes(torch.tensor([[0.0], [1.0], [-3.0]]), centroids).tolist() == [0, 0, 1]


def test_one_row_at_a_time_gets_the_codes_of_the_bulk() -> None:
    rng = np.random.default_rng(1)
    vectors = torch.from_numpy(rng.normal(size=(200, 32)).astype(np.float32))
    centroids = torch.from_numpy(rng.normal(size=(50, 32)).astype(np.float32))
    alone = np.concatenate([assign_codes(vectors[row : row + 1], centroids) for row in range(200)])
    assert_array_equal(assign_codes(vectors, centroids), alone)


def test_fewer_distinct_vectors_than_codes_are_met_exactly() -> None:
    vectors = np.repeat(np.array([[1, 1], [2, 5], [-3, 0]], dtype=np.float32), 4, axis=0)
    centroids = fitted(vectors, 16)
    assert sorted(centroids.tolist()) == [[-3.0, 0.0], [1.0, 1.0], [2.0, 5.0]]


def test_noise_without_clusters_is_not_swallowed_by_one_code() -> None:
    """Rows of unlike length in many dimensions, as deep residuals are: bare seeds give one code 43 % of them."""
    rng = np.random.default_rng(2)
    vectors = (rng.normal(size=(4000, 256)) * rng.lognormal(0, 0.4, size=(4000, 1))).astype(np.float32)
    centroids = fitted(vectors, 64)
    counts = np.bincount(assign_codes(torch.from_numpy(vectors), torch.from_numpy(centroids)), minlength=64)
    assert counts.min() > 0
    assert counts.max() < 0.3 * 4000


def test_equal_seeds_give_equal_centroids() -> None:
    vectors = np.random.default_rng(3).normal(size=(500, 8)).astype(np.float32)
    assert_array_equal(fitted(vectors, 16, seed=5), fitted(vectors, 16, seed=5))
    assert not np.array_equal(fitted(vectors, 16, seed=5), fitted(vectors, 16, seed=6))
