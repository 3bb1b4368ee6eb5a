"""Contrastive fusion: the loss by hand, the pairs it draws, and worlds in which it must, or must not, move items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from asterism.config import EmbeddingConfig
from asterism.core.errors import BundleError, DataError, TrainingError
from asterism.data.sequences import Sequences
from asterism.embeddings import ItemEmbedder, contrastive
from asterism.embeddings.contrastive import geometry_loss, info_nce
from asterism.embeddings.learned_fusion import LearnedFusion
from asterism.embeddings.pairs import Drawn, Pairs, false_negatives, log_popularity
from worlds import sequences_of


def counts_of(size: int, pairs: dict[tuple[int, int], float]) -> sp.csr_array:
    matrix = np.zeros((size, size))
    for (first, second), weight in pairs.items():
        matrix[first, second] = matrix[second, first] = weight
    return sp.csr_array(matrix)


def test_info_nce_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pairs at temperature 1: scores [[1, 0], [3/5, 4/5]], popularities 1, 1 and e^-1, e^-2."""
    monkeypatch.setattr(contrastive, "TEMPERATURE", 1.0)
    first = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    popularity = torch.zeros(2), torch.tensor([-1.0, -2.0])
    forth = np.log1p(np.exp(2 - 2)) + np.log1p(np.exp(1.6 - 2.8))
    back = np.log1p(np.exp(0.6 - 1)) + np.log1p(np.exp(0 - 0.8))
    found = info_nce(first, second, torch.zeros(2, 2, dtype=torch.bool), popularity)
    assert_allclose(float(found), (forth / 2 + back / 2) / 2, rtol=1e-6)
    masked = torch.tensor([[False, True], [False, False]])
    forth, back = np.log1p(np.exp(1.6 - 2.8)) / 2, np.log1p(np.exp(0.6 - 1)) / 2
    assert_allclose(float(info_nce(first, second, masked, popularity)), (forth + back) / 2, rtol=1e-6)


def test_geometry_loss_by_hand() -> None:
    assert float(geometry_loss(torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 1.0]]))) == (1 + 0.25) / 2


def test_the_residual_by_hand() -> None:
    """One input, one hidden unit: silu(2) = 2 / (1 + e^-2) turns (3, 4) upwards and leaves its length."""
    learned = LearnedFusion(*(np.array(one, np.float32) for one in ([[1.0]], [0.5], [[0.0, 1.0]])))
    up = 4 + 2 / (1 + np.exp(-2))
    found = learned.transform(np.array([[1.5], [7.0]], np.float32), np.array([[3, 4], [0, 0]], np.float32))
    assert_allclose(found[0], np.array([3, up]) * 5 / np.hypot(3, up), rtol=1e-6)
    assert not found[1].any()


def test_pairs_are_split_by_a_hash_of_their_items() -> None:
    rng = np.random.default_rng(0)
    pairs = Pairs.of(sp.csr_array(np.ones((200, 200))), np.ones(200, dtype=np.bool_))
    assert len(pairs) == 200 * 199 // 2
    learning, held_out = pairs.split()
    assert len(learning) + len(held_out) == len(pairs)
    assert 0.04 < len(held_out) / len(pairs) < 0.06
    some = rng.permutation(len(pairs))[:5000]
    fewer = Pairs(pairs.first[some], pairs.second[some], pairs.weights[some]).split()[1]
    of_all = set(zip(held_out.first.tolist(), held_out.second.tolist(), strict=True))
    assert set(zip(fewer.first.tolist(), fewer.second.tolist(), strict=True)) < of_all


def test_pairs_are_drawn_by_weight_and_either_way_round() -> None:
    counts = counts_of(4, {(0, 1): 3.0, (2, 3): 1.0, (1, 3): 9.0})
    pairs = Pairs.of(counts, np.array([True, True, True, True]) & (np.arange(4) != 4))
    without = Pairs.of(counts, np.array([True, True, True, False]))
    assert (without.first.tolist(), without.second.tolist()) == ([0], [1])
    drawn = pairs.draw(20_000, np.random.default_rng(0))
    for (first, second), share in {(0, 1): 3 / 13, (2, 3): 1 / 13, (1, 3): 9 / 13}.items():
        forth = ((drawn.first == first) & (drawn.second == second)).mean()
        back = ((drawn.first == second) & (drawn.second == first)).mean()
        assert_allclose([forth, back], share / 2, atol=0.015)
    assert_allclose(np.exp(log_popularity(counts)), np.array([3, 12, 1, 10]) / 26, rtol=1e-6)


def test_items_seen_together_are_no_negatives() -> None:
    drawn = Drawn(np.array([0, 2, 0, 5]), np.array([1, 3, 4, 6]))
    masked = false_negatives(drawn, counts_of(7, {(0, 1): 1, (2, 3): 1, (0, 4): 1, (0, 3): 1, (5, 6): 1}))
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, 2] = expected[2, 0] = True  # the two pairs of item 0
    expected[0, 1] = expected[2, 1] = True  # 0 and 3 stood together
    assert_array_equal(masked, expected)
    itself = false_negatives(Drawn(np.array([0, 2]), np.array([1, 0])), sp.csr_array((3, 3)))
    assert_array_equal(itself, [[False, True], [False, False]])


GROUPS, EACH = 12, 16
ITEMS = GROUPS * EACH


def half_told_world(seed: int = 0) -> tuple[pa.Table, Sequences, NDArray[np.int64]]:
    """Items whose content is half noise; half of it tells the group, and users stay with one group.

    The noise is the louder half, so that content alone mixes the groups.
    """
    rng = np.random.default_rng(seed)
    group = np.arange(ITEMS) % GROUPS
    telling = rng.normal(size=(GROUPS, 8))[group] + 0.3 * rng.normal(size=(ITEMS, 8))
    content = np.concatenate([telling, 2.0 * rng.normal(size=(ITEMS, 8))], axis=1)
    rows = [rng.choice(np.flatnonzero(group == user % GROUPS), size=6).tolist() for user in range(600)]
    items = pa.table({"item_id": [f"i{item}" for item in range(ITEMS)], "embedding_x": content.tolist()})
    return items, sequences_of(rows), group


CONFIG = EmbeddingConfig(
    text_weight=0, structured_weight=0, collaborative_weight=0, precomputed={"x": 1.0}, width=16, fusion="contrastive"
)
LINEAR = CONFIG.model_copy(update={"fusion": "linear"})


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive, "BATCH_PAIRS", 128)
    monkeypatch.setattr(contrastive, "MAX_ROUNDS", 8)


def same_group_among_nearest(
    vectors: NDArray[np.float32], group: NDArray[np.int64], asked: NDArray[np.float32], own: NDArray[np.int64]
) -> float:
    """Share of the five nearest by cosine that are of the asked item's group; an item itself does not count."""
    unit, questions = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (vectors, asked))
    cosines = questions @ unit.T
    cosines[cosines > 1 - 1e-6] = -1
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    return float((group[nearest] == own[:, None]).mean())


def test_items_consumed_together_become_neighbours() -> None:
    items, train, group = half_told_world()
    before = ItemEmbedder.fit(items, train, LINEAR)[1]
    embedder, after = ItemEmbedder.fit(items, train, CONFIG)
    near_before, near_after = (same_group_among_nearest(one, group, one, group) for one in (before, after))
    assert near_before < 0.55
    assert near_after > 0.85
    assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1), rtol=1e-4)
    assert_allclose(embedder.embed(items), after, atol=1e-5)


def test_a_new_item_falls_beside_items_like_it() -> None:
    """What was learned holds for items of which nothing but content is known, drawn from the same groups."""
    items, train, group = half_told_world()
    known = np.flatnonzero(np.arange(ITEMS) // GROUPS < EACH - 4)
    place = np.full(ITEMS, -1)
    place[known] = np.arange(len(known))
    rows = [[int(place[one]) for one in train.items[train.row(row)] if place[one] >= 0] for row in range(len(train))]
    new = np.setdiff1d(np.arange(ITEMS), known)
    scores = {}
    for config in (LINEAR, CONFIG):
        embedder, vectors = ItemEmbedder.fit(items.take(known), sequences_of(rows), config)
        asked = embedder.embed(items.take(new))
        scores[config.fusion] = same_group_among_nearest(vectors, group[known], asked, group[new])
    assert scores["contrastive"] > max(0.75, scores["linear"] + 0.2)


def test_users_without_taste_do_not_part_what_content_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pairs are noise, the held-out pairs end the training before content loses its neighbours."""
    rounds: list[int] = []
    monkeypatch.setattr(contrastive, "MAX_ROUNDS", 30)  # it ends after some seven
    monkeypatch.setattr(contrastive, "track", lambda every, _: (rounds.append(one) or one for one in every))
    items, _, group = half_told_world()
    noise = sequences_of(np.random.default_rng(7).integers(0, ITEMS, size=(600, 6)).tolist())
    before, after = (ItemEmbedder.fit(items, noise, config)[1] for config in (LINEAR, CONFIG))
    near_before, near_after = (same_group_among_nearest(one, group, one, group) for one in (before, after))
    assert near_after > near_before - 0.05
    assert 0 < len(rounds) < contrastive.MAX_ROUNDS


def test_equal_seeds_give_equal_vectors() -> None:
    items, train, _ = half_told_world()
    first, again, other = (ItemEmbedder.fit(items, train, CONFIG, seed)[1] for seed in (3, 3, 4))
    assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_the_learned_fusion_survives_the_disk_and_is_checked(tmp_path: Path) -> None:
    items, train, _ = half_told_world()
    embedder, _ = ItemEmbedder.fit(items, train, CONFIG)
    arrays, description = tmp_path / "e.safetensors", tmp_path / "e.json"
    embedder.save(arrays, description)
    assert_array_equal(ItemEmbedder.load(arrays, description).embed(items), embedder.embed(items))
    whole = load_file(arrays)
    for damage in (
        {"learned.first": whole["learned.first"][:-1]},
        {"learned.second": whole["learned.second"] * np.float32("nan")},
    ):
        save_file(whole | damage, arrays)
        with pytest.raises(BundleError, match="the learned fusion"):
            ItemEmbedder.load(arrays, description)
    save_file({name: one for name, one in whole.items() if name != "learned.bias"}, arrays)
    with pytest.raises(BundleError, match=r"learned\.bias"):
        ItemEmbedder.load(arrays, description)


def test_nothing_to_learn_from_is_told() -> None:
    items, _, _ = half_told_world()
    with pytest.raises(DataError, match="no two items stand near each other"):
        ItemEmbedder.fit(items, sequences_of([[0], [1], [2, 2]]), CONFIG)


def test_a_loss_that_is_no_number_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    items, train, _ = half_told_world()
    monkeypatch.setattr(contrastive, "LEARNING_RATE", 1e30)
    with pytest.raises(TrainingError, match=r"broke down in round 1 .* set `fusion = \"linear\"`"):
        ItemEmbedder.fit(items, train, CONFIG)
