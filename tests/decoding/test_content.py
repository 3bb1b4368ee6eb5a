"""The content head on numbers done by hand, and its place in the fused order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.config import DecodingConfig
from asterism.core.errors import ModelError
from asterism.decoding import Generator, recommend_exhaustively
from asterism.decoding.content import RECENCY_DECAY, ContentHead
from asterism.decoding.history_heads import HistoryHeads
from asterism.models.policy import HistoryBatch
from decoding.table_policy import TablePolicy, random_histories, random_table
from worlds import sequences_of

VECTORS = np.array([[2.0, 0.0], [0.0, 5.0], [3.0, 3.0], [0.0, 0.0]], dtype=np.float32)  # item 3 has no content


def queries(head: ContentHead, rows: list[list[int]]) -> torch.Tensor:
    return head.queries(HistoryBatch.from_sequences(sequences_of(rows), 5))


def test_newer_events_weigh_more() -> None:
    head = ContentHead(VECTORS)
    found = queries(head, [[0, 1], [0], [], [3]])
    newest = 1 / np.hypot(1.0, RECENCY_DECAY)
    np.testing.assert_allclose(
        found.numpy(), [[RECENCY_DECAY * newest, newest], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], rtol=1e-6
    )


def test_scores_are_cosines() -> None:
    head = ContentHead(VECTORS)
    items = torch.tensor([[0, 1, 2, 3], [1, 1, 0, 2]])
    found = head.scores(queries(head, [[0], [1]]), items)
    half = 0.5**0.5
    np.testing.assert_allclose(found.numpy(), [[1.0, 0.0, half, 0.0], [1.0, 1.0, 0.0, half]], rtol=1e-6)


def test_an_item_without_a_vector_is_refused() -> None:
    head = ContentHead(VECTORS)
    with pytest.raises(ModelError, match="knows 4 items, but item index 4 is to be scored"):
        head.scores(queries(head, [[0]]), torch.tensor([[4]]))


@settings(max_examples=40)
@given(
    items=st.integers(2, 50),
    rows=st.integers(1, 7),
    k=st.integers(1, 60),
    weights=st.sampled_from([(1.0, 0.0, 2.0), (0.0, 0.0, 1.0), (0.5, 0.3, 4.0)]),
    seed=st.integers(0, 10_000),
)
def test_the_twin_agrees_on_the_fused_order(
    items: int, rows: int, k: int, weights: tuple[float, float, float], seed: int
) -> None:
    table = random_table((32, 32, 8), items, seed)
    items = len(table)
    policy = TablePolicy((32, 32, 8), items, seed)
    histories = random_histories(rows, items, seed)
    heads = HistoryHeads(ContentHead(np.random.default_rng(seed).normal(size=(items, 6)).astype(np.float32)))
    item_weight, code_weight, content_weight = weights
    config = DecodingConfig(beam=items, item_weight=item_weight, code_weight=code_weight, content_weight=content_weight)
    found = Generator(policy, table, config, heads=heads).recommend(histories, k)
    slow = recommend_exhaustively(policy, table, histories, k, config, excluded=[()] * rows, heads=heads)
    np.testing.assert_array_equal(found.items, slow.items)
    np.testing.assert_allclose(found.scores, slow.scores, rtol=1e-5, atol=1e-5)


def test_content_alone_orders_by_likeness() -> None:
    table = random_table((8, 8), 4)
    config = DecodingConfig(beam=4, item_weight=0.0, content_weight=1.0)
    one = Generator(TablePolicy((8, 8), 4), table, config, heads=HistoryHeads(ContentHead(VECTORS)))
    found = one.recommend(sequences_of([[1], [0, 0, 0]]), 4)
    assert found.items.tolist() == [[1, 2, 0, 3], [0, 2, 1, 3]], "ties by item index"
