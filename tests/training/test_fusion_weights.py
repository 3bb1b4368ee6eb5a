"""The search for fusion weights, on worlds whose right mixture is known."""

from __future__ import annotations

import numpy as np
import pytest

from asterism.evaluation.metrics import ndcg
from asterism.training.fusion_weights import CandidateScores, choose_weights, fused_ranks, mean_spread

START = np.array([1.0, 0.0, 0.0])


def world(truth: tuple[float, ...], scales: tuple[float, ...], cases: int = 400) -> CandidateScores:
    """Heads are independent noise of a scale; the target is the candidate with the highest Σ truth · standard noise."""
    noise = np.random.default_rng(0).normal(size=(len(truth), cases, 30))
    targets = np.tensordot(np.array(truth), noise, axes=1).argmax(axis=1)
    scores = noise * np.array(scales)[:, None, None] + 7.0  # an offset orders nothing
    return CandidateScores(scores.astype(np.float32), np.ones((cases, 30), dtype=bool), targets)


@pytest.mark.parametrize("truth", [(0.6, 0.4, 0.0), (0.2, 0.3, 0.5), (0.0, 0.0, 1.0), (0.45, 0.55, 0.0)])
def test_the_right_mixture_is_found_whatever_the_scales(truth: tuple[float, ...]) -> None:
    scales = (14.0, 0.5, 0.02)
    found = choose_weights(world(truth, scales), START)
    shares = found.weights * np.array(scales)
    np.testing.assert_allclose(shares / shares.sum(), truth, atol=0.03)
    assert found.ndcg_at_10 > 0.985
    assert found.ndcg_at_10_before < 0.95


def test_the_right_mixture_of_four_is_found() -> None:
    scales, truth = (14.0, 0.5, 0.02, 3.0), (0.3, 0.2, 0.1, 0.4)
    found = choose_weights(world(truth, scales), np.array([1.0, 0.0, 0.0, 0.0]))
    shares = found.weights * np.array(scales)
    np.testing.assert_allclose(shares / shares.sum(), truth, atol=0.05)
    assert found.ndcg_at_10 > 0.95


def test_what_it_says_is_what_the_weights_are_worth() -> None:
    candidates = world((0.5, 0.2, 0.3), (3.0, 1.0, 0.1))
    missed = candidates.targets.copy()
    missed[::4] = -1  # a quarter was not generated
    candidates = CandidateScores(candidates.scores, candidates.present, missed)
    found = choose_weights(candidates, START)
    assert ndcg(fused_ranks(candidates, found.weights), 10).mean() == pytest.approx(found.ndcg_at_10, abs=1e-3)
    assert ndcg(fused_ranks(candidates, START), 10).mean() == pytest.approx(found.ndcg_at_10_before)
    assert found.ndcg_at_10 <= 0.75


def test_the_start_wins_ties() -> None:
    candidates = world((1.0, 0.0, 0.0), (2.0, 1.0, 1.0))
    start = np.array([3.0, 0.0, 0.0])
    found = choose_weights(candidates, start)
    assert found.weights.tolist() == start.tolist()
    assert found.ndcg_at_10 == found.ndcg_at_10_before == 1.0


def test_a_head_that_never_differs_gets_no_weight() -> None:
    candidates = world((0.5, 0.5, 0.0), (1.0, 1.0, 0.0))
    found = choose_weights(candidates, np.array([1.0, 0.0, 5.0]))
    assert found.weights[2] == 0.0
    np.testing.assert_allclose(found.weights[:2], [1.0, 1.0], atol=0.1)


def test_without_a_generated_target_the_start_stays() -> None:
    candidates = world((1.0, 0.0, 0.0), (1.0, 1.0, 1.0), cases=5)
    nowhere = CandidateScores(candidates.scores, candidates.present, np.full(5, -1))
    assert choose_weights(nowhere, START).weights.tolist() == START.tolist()


def test_ranks_by_hand() -> None:
    scores = np.array([[[5.0, 1.0, 3.0], [2.0, 2.0, 2.0]], [[0.0, 4.0, 9.0], [0.0, 0.0, 9.0]]], dtype=np.float32)
    present = np.array([[True, True, True], [True, True, False]])
    candidates = CandidateScores(scores, present, np.array([1, 1]))
    assert fused_ranks(candidates, np.array([1.0, 0.0])).tolist() == [2, 1]  # 1 below 5 and 3; a tie with a lower item
    assert fused_ranks(candidates, np.array([0.5, 1.0])).tolist() == [1, 1]  # 2.5, 4.5, 10.5; a tie
    nowhere = CandidateScores(scores, present, np.array([-1, 0]))
    assert fused_ranks(nowhere, np.array([0.0, 1.0])).tolist() == [-1, 0]


def test_spread_counts_present_candidates_only() -> None:
    scores = np.array([[[1.0, 3.0, 99.0], [4.0, 4.0, 4.0]]], dtype=np.float32)
    present = np.array([[True, True, False], [True, True, True]])
    assert mean_spread(CandidateScores(scores, present, np.zeros(2, dtype=np.int64))).tolist() == [0.5]  # (1 + 0) / 2
