"""The distribution that is aligned: fused scores as they are served, their temperature, divergence and entropy."""

from math import exp, log

import numpy as np
import pytest
import torch

from asterism.config import DecodingConfig
from asterism.decoding import Generator
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.policy import read_histories
from asterism.training.alignment.distribution import (
    Candidates,
    ItemDistribution,
    divergence,
    entropy,
    fitted_temperature,
)
from decoding.table_policy import TablePolicy, random_histories, random_table

SIZES, ITEMS = (5, 4, 3), 30


@pytest.mark.parametrize("kind", ["served", "codes"])
def test_candidates_are_scored_as_the_generator_scores_them(kind: str) -> None:
    table, policy = random_table(SIZES, ITEMS), TablePolicy(SIZES, ITEMS)
    weights = DecodingConfig(beam=ITEMS, item_weight=0.7, code_weight=0.4, content_weight=2.0, neighbour_weight=3.0)
    histories = random_histories(6, ITEMS)
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32)
    heads = HistoryHeads(ContentHead(vectors), NeighbourHead.learn(histories, ITEMS))
    mode = "rescored" if kind == "served" else "generate"
    found = Generator(policy, table, weights, heads=heads).recommend(histories, 8, mode=mode)
    batch = read_histories(policy, histories)
    distribution = ItemDistribution.of(kind, table, weights, heads, temperature=2.0)
    candidates = distribution.candidates(batch, torch.from_numpy(found.items))
    scores = distribution.scores(policy, policy.encode(batch), candidates)
    temperature = 2.0 if kind == "served" else 1.0
    np.testing.assert_allclose(scores.numpy() * temperature, found.scores, rtol=1e-5, atol=1e-5)


def test_tokens_of_paths_add_up_to_their_scores_and_served_ones_to_one() -> None:
    table, policy = random_table(SIZES, ITEMS), TablePolicy(SIZES, ITEMS)
    state = policy.encode(read_histories(policy, random_histories(2, ITEMS)))
    items = torch.tensor([[3, 1, 7], [2, 9, -1]])
    picked = torch.tensor([[2, 0], [1, 2]])
    codes = ItemDistribution.of("codes", table, DecodingConfig(), HistoryHeads())
    tokens = codes.token_log_probs(policy, state, Candidates(items, None), picked)
    assert tokens.shape == (2, 2, 3)
    expected = codes.scores(policy, state, Candidates(items, None)).gather(1, picked)
    torch.testing.assert_close(tokens.sum(2)[0], expected[0])
    assert tokens[1, 1].tolist() == [0, 0, 0]
    served = ItemDistribution.of("served", table, DecodingConfig(), HistoryHeads(), 1.5)
    every = torch.tensor([[0, 1, 2], [0, 1, 2]])
    tokens = served.token_log_probs(policy, state, Candidates(items, None), every)
    assert tokens.shape == (2, 3, 1)
    assert tokens[0].exp().sum().item() == pytest.approx(1.0)
    assert tokens[1, :2].exp().sum().item() == pytest.approx(1.0)


def test_divergence_and_entropy_over_candidates() -> None:
    ours = torch.tensor([[log(3.0), 0.0, -torch.inf]])  # 3/4, 1/4
    theirs = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert divergence(ours, theirs).item() == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))
    assert divergence(ours, ours).item() == 0
    assert entropy(ours).item() == pytest.approx(-0.75 * log(0.75) - 0.25 * log(0.25))


def test_the_temperature_is_the_one_that_scores_were_scaled_by() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn((4000, 6), generator=random) * 2
    drawn = torch.multinomial(logits.softmax(1), 1, generator=random)
    right = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, drawn, True)
    right[:5] = False  # never generated
    assert fitted_temperature(logits * 8.0, right) == 8.0
    assert fitted_temperature(logits / 4.0, right) == 0.25
    assert fitted_temperature(logits, torch.zeros_like(right)) == 1.0
    assert exp(0) == 1
