"""UGT: what a state may and may not depend on, and the sums it is made of."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from asterism.config import ModelConfig
from asterism.data.sequences import Sequences
from asterism.models.policy import HistoryBatch
from asterism.models.ugt import UGT, ItemFeatures, UGTShape

ITEMS = 12


def make_features() -> ItemFeatures:
    codes = torch.tensor([[item // 4, item % 4, 0] for item in range(ITEMS)])
    return ItemFeatures(codes, (3, 4, 2), torch.randn(ITEMS, 5))


def make_model(**changes: object) -> UGT:
    torch.manual_seed(0)
    config = ModelConfig(width=8, blocks=2, heads=2, max_events=6, dropout=0.0).model_copy(update=changes)
    return UGT(make_features(), UGTShape(config, temperature=0.1)).eval()


def histories(*rows: list[int]) -> HistoryBatch:
    offsets = np.cumsum([0, *map(len, rows)])
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    times = np.concatenate([np.arange(len(row)) * 100 for row in rows]).astype(np.int64)
    sequences = Sequences(offsets, items, times, np.ones(len(items), dtype=np.int8))
    return HistoryBatch.from_sequences(sequences, 6)


def test_batch_is_right_aligned_and_cut_to_the_newest() -> None:
    batch = histories([1, 2], [3, 4, 5, 6, 7, 8, 9])
    assert batch.items.tolist() == [[-1, -1, -1, -1, 1, 2], [4, 5, 6, 7, 8, 9]]
    assert batch.mask[0].tolist() == [False] * 4 + [True] * 2


def test_a_state_does_not_see_the_future() -> None:
    model = make_model()
    first = model(histories([1, 2, 3, 4]))
    second = model(histories([1, 2, 9, 10]))
    torch.testing.assert_close(first[:2], second[:2])
    assert not torch.allclose(first[2], second[2])


def test_neighbours_in_the_batch_and_padding_change_nothing() -> None:
    model = make_model()
    together = model.encode(histories([1, 2], [3, 4, 5, 6, 7], []))
    torch.testing.assert_close(together[0], model.encode(histories([1, 2]))[0])
    torch.testing.assert_close(together[1], model.encode(histories([3, 4, 5, 6, 7]))[0])


def test_a_user_without_events_gets_the_learned_start() -> None:
    model = make_model(recency_pooling=True)
    torch.nn.init.normal_(model.start)
    state = model.encode(histories([], [1]))
    torch.testing.assert_close(state[0, :8], model.norm(model.start))
    assert state[0, 8:].tolist() == [0.0] * 8, "nothing is pooled"


def test_an_item_is_the_sum_of_its_parts() -> None:
    model = make_model()
    encoder = model.items
    assert encoder.own is not None
    assert encoder.project is not None
    item = 7  # codes (1, 3, 0)
    by_hand = (
        encoder.code_vectors[0].weight[1]
        + encoder.code_vectors[1].weight[3]
        + encoder.code_vectors[2].weight[0]
        + encoder.project(encoder.content[item])
        + encoder.own.weight[item]
    )
    torch.testing.assert_close(encoder(torch.tensor(item)), by_hand)


def test_parts_can_be_switched_off() -> None:
    model = make_model(id_vectors=False, content=False)
    codes_only = sum(table.weight[0] for table in model.items.code_vectors)
    torch.testing.assert_close(model.items(torch.tensor(0)), codes_only)


def test_code_probabilities_sum_to_one_at_every_level() -> None:
    model = make_model()
    state = model.encode(histories([1, 2], [3]))
    for level, size in enumerate(model.codebook_sizes):
        prefixes = torch.zeros(2, 5, level, dtype=torch.long)
        log_probs = model.next_code_log_probs(state, prefixes)
        assert log_probs.shape == (2, 5, size)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 5))


def test_item_scores_are_cosines_over_the_temperature() -> None:
    model = make_model()
    torch.nn.init.normal_(model.turn.weight)
    with torch.inference_mode():
        state = model.encode(histories([1, 2], [3]))
        everything = model.item_scores(state)
        some = model.item_scores(state, torch.tensor([[3, 1], [0, 11]]))
        by_hand = (
            functional.cosine_similarity(state[1, :8] + model.turn(state[1, :8]), model.items(torch.tensor(11)), dim=0)
            / 0.1
        )
    torch.testing.assert_close(some, everything.gather(1, torch.tensor([[3, 1], [0, 11]])))
    torch.testing.assert_close(some[1, 1], by_hand)


def test_kept_item_directions_follow_the_weights() -> None:
    model = make_model()
    with torch.inference_mode():
        before = model.item_directions().clone()
    model.train()
    with torch.no_grad():
        model.items.code_vectors[0].weight.add_(torch.randn(3, 8))
    model.eval()
    with torch.inference_mode():
        assert not torch.allclose(before, model.item_directions())


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="a width of 9 cannot be shared by 2 heads"):
        make_model(width=9)
