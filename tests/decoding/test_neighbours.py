"""The neighbour head: transitions counted by hand, a slow twin, and the file it is kept in."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from asterism.core.errors import BundleError, ModelError
from asterism.decoding import neighbours
from asterism.decoding.neighbours import BACKWARD, DISTANCE_DECAY, RECENCY_DECAY, SHRINKAGE, WINDOW, NeighbourHead
from asterism.models.policy import HistoryBatch
from worlds import sequences_of

HISTORY_EVENTS = 5


def batch_of(rows: list[list[int]]) -> HistoryBatch:
    return HistoryBatch.from_sequences(sequences_of(rows), HISTORY_EVENTS)


def test_transitions_by_hand() -> None:
    head = NeighbourHead.learn(sequences_of([[0, 1, 2], [3, 0]]), 5)
    seven, six = sqrt(7), sqrt(6)  # item 0 has two events, 1 to 3 have one, five are added
    expected = np.zeros((5, 5))
    expected[0, 1], expected[1, 0] = 1 / (seven * six), 0.3 / (seven * six)
    expected[1, 2], expected[2, 1] = 1 / 6, 0.3 / 6
    expected[0, 2], expected[2, 0] = 0.8 / (seven * six), 0.3 * 0.8 / (seven * six)
    expected[3, 0], expected[0, 3] = 1 / (seven * six), 0.3 / (seven * six)
    np.testing.assert_allclose(head.transitions.toarray(), expected, rtol=1e-6)


def test_pairs_count_up_to_five_events_apart() -> None:
    found = NeighbourHead.learn(sequences_of([[0, 1, 2, 3, 4, 5, 6]]), 7).transitions.toarray()
    np.testing.assert_allclose(found[0], [0, *(0.8**apart / 6 for apart in range(5)), 0], rtol=1e-6)
    np.testing.assert_allclose(found[6], [0, *(0.3 * 0.8**apart / 6 for apart in range(4, -1, -1)), 0], rtol=1e-6)


def test_an_item_is_not_its_own_neighbour_and_few_events_are_no_error() -> None:
    assert NeighbourHead.learn(sequences_of([[0, 0, 0]]), 2).transitions.nnz == 0
    for rows in ([[0]], [[], [1]], []):
        assert NeighbourHead.learn(sequences_of(rows), 2).transitions.toarray().tolist() == [[0, 0], [0, 0]]


def test_the_strongest_are_kept_and_of_equal_ones_the_lower_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "NEIGHBOURS", 2)
    found = NeighbourHead.learn(sequences_of([[0, 3], [0, 1], [0, 2], [4, 1], [4, 5], [4, 5]]), 6).transitions
    kept = {row: sorted(found.indices[found.indptr[row] : found.indptr[row + 1]].tolist()) for row in (0, 4)}
    assert kept[0] == [2, 3], "after 0 came 1, 2 and 3 once each, and 1 has more events, so it counts less"
    assert kept[4] == [1, 5]
    alike = NeighbourHead.learn(sequences_of([[0, 3], [0, 1], [0, 2]]), 4).transitions
    assert sorted(alike.indices[alike.indptr[0] : alike.indptr[1]].tolist()) == [1, 2]


def test_scores_by_hand() -> None:
    head = NeighbourHead.learn(sequences_of([[0, 1], [2, 1]]), 4)
    one = 1 / (sqrt(6) * sqrt(7))
    found = head.scores(batch_of([[2, 0], [0], [], [0, 3, 0]]), torch.tensor([[1, 0, 3]] * 4))
    expected = [[one + 0.7 * one, 0, 0], [one, 0, 0], [0, 0, 0], [one + 0.49 * one, 0, 0]]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def slow_score(train: list[list[int]], items: int, history: list[int], candidate: int) -> float:
    """Pair by pair, from the sequences themselves."""
    events = [sum(row.count(item) for row in train) + SHRINKAGE for item in range(items)]
    total = 0.0
    for age, asked in enumerate(reversed(history[-HISTORY_EVENTS:])):
        worth = 0.0
        for row in train:
            for early in range(len(row)):
                for late in range(early + 1, min(len(row), early + WINDOW + 1)):
                    decayed = DISTANCE_DECAY ** (late - early - 1)
                    worth += decayed * ((row[early], row[late]) == (asked, candidate))
                    worth += BACKWARD * decayed * ((row[late], row[early]) == (asked, candidate))
        if asked != candidate:
            total += RECENCY_DECAY**age * worth / sqrt(events[asked] * events[candidate])
    return total


ROWS = st.lists(st.lists(st.integers(0, 7), max_size=9), min_size=1, max_size=6)


@settings(max_examples=60)
@given(train=ROWS, histories=ROWS, at_once=st.sampled_from([1, 16, 1 << 22]))
def test_a_slow_twin_agrees(train: list[list[int]], histories: list[list[int]], at_once: int) -> None:
    head = NeighbourHead.learn(sequences_of(train), 8)
    candidates = torch.arange(8).expand(len(histories), -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_SCORES_AT_ONCE", at_once)
        found = head.scores(batch_of(histories), candidates)
    slow = [[slow_score(train, 8, history, item) for item in range(8)] for history in histories]
    np.testing.assert_allclose(found.numpy(), slow, rtol=1e-5, atol=1e-7)


def test_what_was_saved_scores_as_before(tmp_path: Path) -> None:
    head = NeighbourHead.learn(sequences_of([[0, 1, 2, 5], [2, 0, 4]]), 7)
    head.save(tmp_path / "neighbours.safetensors")
    again = NeighbourHead.load(tmp_path / "neighbours.safetensors", 7)
    asked = batch_of([[0, 2], [6], []]), torch.arange(7).expand(3, -1)
    assert torch.equal(again.scores(*asked), head.scores(*asked))
    assert head.scores(*asked).abs().sum() > 0


def test_a_file_of_another_catalogue_or_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "neighbours.safetensors"
    NeighbourHead.learn(sequences_of([[0, 1, 2, 5]]), 7).save(file)
    with pytest.raises(BundleError, match="holds the neighbours of 7 items, the catalogue has 8; train the bundle"):
        NeighbourHead.load(file, 8)
    found = load_file(file)
    save_file({**found, "neighbours": found["neighbours"] + 2}, file)
    with pytest.raises(BundleError, match="holds the neighbours of 7 items"):
        NeighbourHead.load(file, 7)
    save_file({name: found[name] for name in ("offsets", "weights")}, file)
    with pytest.raises(BundleError, match=r"holds no neighbours \('neighbours'\); train the bundle again"):
        NeighbourHead.load(file, 7)
    file.write_bytes(b"nothing")
    with pytest.raises(BundleError, match="holds no neighbours"):
        NeighbourHead.load(file, 7)


@pytest.mark.parametrize(("history", "candidate"), [([4], 0), ([0], 4)])
def test_an_item_that_is_not_known_is_refused(history: list[int], candidate: int) -> None:
    head = NeighbourHead.learn(sequences_of([[0, 1, 2]]), 4)
    with pytest.raises(ModelError, match=r"knows 4 items, but item index 4 is asked for; .*neighbour_weight to 0"):
        head.scores(batch_of([history]), torch.tensor([[candidate]]))
