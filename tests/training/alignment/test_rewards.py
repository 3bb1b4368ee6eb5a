"""Rewards on numbers done by hand."""

from math import log2, sqrt

import numpy as np
import pytest
import torch

from asterism.config import RewardWeights
from asterism.training.alignment.rewards import (
    Drawn,
    action_rewards,
    collaborative_rewards,
    cosine_of_users,
    hit_rewards,
    rank_penalties,
    semantic_rewards,
    variety_rewards,
    weighed_reward,
)
from worlds import sequences_of

ITEMS = torch.tensor([[7, 2, 5, -1]])
TARGET = torch.tensor([2])


def test_a_hit_is_the_item_itself() -> None:
    assert hit_rewards(ITEMS, TARGET).tolist() == [[0, 1, 0, 0]]
    assert action_rewards(ITEMS, TARGET, torch.tensor([3.0])).tolist() == [[0, 3, 0, 0]]


def test_a_wrong_item_costs_by_its_place() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 9.0]])  # places: 2 first, 5 second, 7 third; the padding has none
    second, third = 1 / log2(3), 1 / log2(4)
    total = second + third
    assert rank_penalties(ITEMS, TARGET, scores)[0].tolist() == pytest.approx([-third / total, 0, -second / total, 0])


def test_without_a_wrong_item_there_is_no_penalty() -> None:
    assert rank_penalties(torch.tensor([[2]]), TARGET, torch.tensor([[0.0]])).tolist() == [[0]]


def test_likeness_of_vectors() -> None:
    vectors = torch.zeros(8, 2)
    vectors[2], vectors[7] = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])  # 5 has none
    assert semantic_rewards(ITEMS, TARGET, vectors)[0].tolist() == pytest.approx([1 / sqrt(2), 1, 0, 0])


def test_likeness_of_users() -> None:
    train = sequences_of([[2, 7, 7], [2, 5], [7], [2]])
    likeness = cosine_of_users(train, 8)
    found = collaborative_rewards(ITEMS, TARGET, likeness)[0].tolist()
    assert found == pytest.approx([1 / sqrt(3 * 2), 1, 1 / sqrt(3 * 1), 0])  # 2 has three users, 7 two, 5 one


def test_an_item_without_users_is_like_itself() -> None:
    likeness = cosine_of_users(sequences_of([[0, 1]]), 8)
    assert collaborative_rewards(ITEMS, TARGET, likeness)[0].tolist() == [0, 1, 0, 0]


def test_rewards_add_up_by_their_weights() -> None:
    weights = RewardWeights(hit=2.0, rank=0.5, semantic=0.25, collaborative=4.0, action=0.1)
    vectors = np.eye(8, dtype=np.float32)
    train = sequences_of([[2, 7, 7], [2, 5], [7], [2]])
    drawn = Drawn(np.array([0]), ITEMS, TARGET, torch.tensor([[0.1, 0.9, 0.5, 9.0]]), torch.tensor([3.0]))
    second, third = 1 / log2(3), 1 / log2(4)
    found = weighed_reward(weights, vectors, train)(drawn)[0].tolist()
    assert found == pytest.approx(
        [
            -0.5 * third / (second + third) + 4 / sqrt(6),
            2 + 0.25 + 4 + 0.3,
            -0.5 * second / (second + third) + 4 / sqrt(3),
            0,
        ]
    )


def test_variety_is_unlikeness_to_the_rest_of_the_group() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    found = variety_rewards(torch.tensor([[0, 1, 2], [0, 0, -1], [1, -1, -1]]), vectors)
    half = 1 / sqrt(2)
    assert found[0].tolist() == pytest.approx([1 - half / 2, 1 - half / 2, 1 - half])
    assert found[1].tolist() == pytest.approx([0.0, 0.0, 0.0])
    assert found[2].tolist() == [0.0, 0.0, 0.0], "alone"
    weights = RewardWeights(hit=0, rank=0, variety=2.0)
    train = sequences_of([[0, 1]])
    reward = weighed_reward(weights, vectors.numpy(), train)
    nothing = torch.zeros(1, 3)
    drawn = Drawn(np.array([0]), torch.tensor([[0, 1, 2]]), torch.tensor([0]), nothing, torch.ones(1))
    assert reward(drawn)[0].tolist() == pytest.approx([2 - half, 2 - half, 2 - 2 * half])
