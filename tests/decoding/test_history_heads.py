"""Content and neighbours beside the policy: their sum, their absence, and the fused order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.config import DecodingConfig
from asterism.core.errors import ConfigError
from asterism.decoding import Generator, recommend_exhaustively
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.policy import HistoryBatch
from decoding.table_policy import TablePolicy, random_histories, random_table
from worlds import sequences_of

VECTORS = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 1.0]], dtype=np.float32)
CONTENT = ContentHead(VECTORS)
NEIGHBOURS = NeighbourHead.learn(sequences_of([[0, 1], [0, 1, 2]]), 4)
HISTORIES = HistoryBatch.from_sequences(sequences_of([[0], [3, 1]]), 5)
ITEMS = torch.arange(4).expand(2, -1)


def test_the_weighted_sum_of_both() -> None:
    config = DecodingConfig(content_weight=3.0, neighbour_weight=0.5)
    found = HistoryHeads(CONTENT, NEIGHBOURS).weighted(HISTORIES, ITEMS, config)
    by_hand = 3.0 * CONTENT.scores(CONTENT.queries(HISTORIES), ITEMS) + 0.5 * NEIGHBOURS.scores(HISTORIES, ITEMS)
    assert found is not None
    assert torch.equal(found, by_hand)


@pytest.mark.parametrize(
    "heads", [HistoryHeads(CONTENT, NEIGHBOURS), HistoryHeads(CONTENT), HistoryHeads(None, NEIGHBOURS)]
)
def test_a_head_without_weight_may_be_absent_and_adds_nothing(heads: HistoryHeads) -> None:
    assert heads.weighted(HISTORIES, ITEMS, DecodingConfig()) is None
    assert NO_HEADS.weighted(HISTORIES, ITEMS, DecodingConfig()) is None
    if heads.content is not None:
        found = heads.weighted(HISTORIES, ITEMS, DecodingConfig(content_weight=2.0))
        assert found is not None
        assert torch.equal(found, 2.0 * CONTENT.scores(CONTENT.queries(HISTORIES), ITEMS))
    if heads.neighbours is not None:
        found = heads.weighted(HISTORIES, ITEMS, DecodingConfig(neighbour_weight=2.0))
        assert found is not None
        assert torch.equal(found, 2.0 * NEIGHBOURS.scores(HISTORIES, ITEMS))


@pytest.mark.parametrize(
    ("heads", "weights", "sentence"),
    [
        (HistoryHeads(None, NEIGHBOURS), {"content_weight": 1.0}, "content_weight is above 0, but there are no item"),
        (HistoryHeads(CONTENT), {"neighbour_weight": 1.0}, "neighbour_weight is above 0, but no neighbours were"),
    ],
)
def test_a_head_with_weight_must_be_there(heads: HistoryHeads, weights: dict[str, float], sentence: str) -> None:
    config = DecodingConfig(beam=4, **weights)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=sentence):
        heads.weighted(HISTORIES, ITEMS, config)
    generator = Generator(TablePolicy((8, 8), 4), random_table((8, 8), 4), config, heads=heads)
    with pytest.raises(ConfigError, match=sentence):
        generator.recommend(sequences_of([[1]]), 2)


@settings(max_examples=40)
@given(
    items=st.integers(2, 50),
    rows=st.integers(1, 7),
    k=st.integers(1, 60),
    weights=st.sampled_from([(1.0, 0.0, 0.0, 9.0), (0.0, 0.0, 0.0, 1.0), (0.5, 0.3, 4.0, 20.0)]),
    seed=st.integers(0, 10_000),
)
def test_the_twin_agrees_on_the_order_of_four_heads(
    items: int, rows: int, k: int, weights: tuple[float, float, float, float], seed: int
) -> None:
    table = random_table((32, 32, 8), items, seed)
    items = len(table)
    policy = TablePolicy((32, 32, 8), items, seed)
    histories = random_histories(rows, items, seed)
    heads = HistoryHeads(
        ContentHead(np.random.default_rng(seed).normal(size=(items, 6)).astype(np.float32)),
        NeighbourHead.learn(random_histories(30, items, seed + 1), items),
    )
    names = ("item_weight", "code_weight", "content_weight", "neighbour_weight")
    config = DecodingConfig(beam=items, **dict(zip(names, weights, strict=True)))  # type: ignore[arg-type]
    found = Generator(policy, table, config, heads=heads).recommend(histories, k)
    slow = recommend_exhaustively(policy, table, histories, k, config, excluded=[()] * rows, heads=heads)
    np.testing.assert_array_equal(found.items, slow.items)
    np.testing.assert_allclose(found.scores, slow.scores, rtol=1e-5, atol=1e-5)


def test_neighbours_alone_order_by_what_followed() -> None:
    config = DecodingConfig(beam=4, item_weight=0.0, neighbour_weight=1.0)
    generator = Generator(TablePolicy((8, 8), 4), random_table((8, 8), 4), config, heads=HistoryHeads(None, NEIGHBOURS))
    found = generator.recommend(sequences_of([[0], [2]]), 4)
    assert found.items.tolist() == [[1, 2, 0, 3], [1, 0, 2, 3]], "ties by item index"
