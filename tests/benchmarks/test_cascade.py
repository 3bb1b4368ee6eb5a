"""The benchmark of the cascade measures a pair of widths by weights that its own cases did not choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cascade
from asterism.config import DecodingConfig
from asterism.core.errors import BundleError
from asterism.training.fusion_weights import CandidateScores


def test_a_kept_width_is_narrower_than_the_generated_one() -> None:
    assert cascade.pairs_of_widths([10, 60], [20, 60]) == [(10, 0), (60, 0), (60, 20)]


def test_each_half_is_measured_by_the_weights_of_the_other() -> None:
    """Even cases are answered by the item head and odd ones by the content head, so each half chooses wrongly."""
    cases, candidates = 40, 30
    right, wrong = np.linspace(1, 0, candidates), np.linspace(0, 1, candidates)
    scores = np.zeros((4, cases, candidates), dtype=np.float32)
    scores[0, 0::2], scores[2, 0::2] = right, wrong
    scores[0, 1::2], scores[2, 1::2] = wrong, right
    asked = CandidateScores(scores, np.ones((cases, candidates), dtype=bool), np.zeros(cases, dtype=np.int64))
    assert cascade.cross_chosen_ndcg(asked, DecodingConfig()).max() == 0.0
    scores[2] = scores[0] = right
    assert cascade.cross_chosen_ndcg(asked, DecodingConfig()).min() == 1.0


def test_differences_are_taken_case_by_case() -> None:
    found = cascade.against(np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.7, 0.6]))
    assert found == {"difference": 0.13333, "standard_error": 0.07201}  # .1, 0 and .3: deviation .1247 over √3


def test_the_plot_has_a_line_for_each_kept_width(tmp_path: Path) -> None:
    points = [
        {"generated": wide, "kept": kept, "ndcg_at_10": 0.05, "alone_us": 10.0 * wide, "batched_us": 1.0 * wide}
        for wide, kept in cascade.pairs_of_widths([10, 100, 1000], [50])
    ]
    cascade.plot(points, "a set", tmp_path / "cascade.png")
    assert (tmp_path / "cascade.png").stat().st_size > 10_000


def test_requests_need_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        cascade.load(tmp_path / "nothing", None, 0)
