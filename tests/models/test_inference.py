"""The inference form answers what UGT answers, in every configuration, whatever stands beside a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.config import ModelConfig
from asterism.models.policy import HistoryBatch
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.models.ugt.buckets import gap_bucket
from asterism.models.ugt.inference import InferenceUGT, Precision
from asterism.models.ugt.inference.bias import BiasRows
from asterism.models.ugt.inference.linear import packed
from models.small_ugt import EVERYTHING, ITEMS, MAX_EVENTS, batch_of, full_sequences, make_model

SWITCHES: list[dict[str, object]] = [
    {},
    {"recency_pooling": True},
    {"id_vectors": False, "content": False},
    {"actions": True, "values": True, "time_gaps": True},
    {"contexts": True, "asked": True},
    {"user_attributes": True},
    {"user_attributes": True, "group_norm": True},
    {"experts": 1},
    {"experts": 4, "expert_top_k": 1},
    {"summaries": 3, "max_history": 20, "recency_pooling": True},
    {"blocks": 1, "heads": 4},
    EVERYTHING,
]
NAMES = ["+".join(switch) or "plain" for switch in SWITCHES]
#: Root of the mean squared error of states, whose numbers are about one: 8 bits of mantissa, or 64 to 127 steps a row.
TOLERANCES: dict[Precision, float] = {"fp32": 2e-6, "bf16": 0.03, "int8": 0.13}


def encoded(model: UGT, histories: HistoryBatch) -> Tensor:
    with torch.inference_mode():
        return model.encode(histories)


@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_states_are_those_of_the_model(switch: dict[str, object]) -> None:
    model = make_model(**switch)
    batch = batch_of(model, full_sequences([3, 0, 25, 1, 9, 5]))
    torch.testing.assert_close(InferenceUGT(model).encode(batch), encoded(model, batch), rtol=1e-4, atol=2e-5)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 3 * MAX_EVENTS), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    switch=st.sampled_from(SWITCHES),
)
def test_states_are_those_of_the_model_for_any_lengths(
    lengths: list[int], seed: int, switch: dict[str, object]
) -> None:
    model = make_model(**switch)
    sequences = full_sequences(lengths, seed)
    policy = InferenceUGT(model)
    together = policy.encode(batch_of(model, sequences))
    torch.testing.assert_close(together, encoded(model, batch_of(model, sequences)), rtol=1e-4, atol=2e-5)
    alone = [policy.encode(batch_of(model, sequences.take(np.array([row])))) for row in range(len(lengths))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=2e-5)


def test_rows_of_very_unequal_length_are_worked_on_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(max_events=100, user_attributes=True)
    policy = InferenceUGT(model)
    worked_on: list[tuple[int, ...]] = []
    through = policy.encoder._through

    def watched(rows: object, keep: bool) -> object:
        worked_on.append(tuple(rows.states.shape[:2]))  # type: ignore[attr-defined]
        return through(rows, keep)  # type: ignore[arg-type]

    monkeypatch.setattr(policy.encoder, "_through", watched)
    batch = batch_of(model, full_sequences([100, 3, 2, 0, 90, 4, 1]))
    torch.testing.assert_close(policy.encode(batch), encoded(model, batch), rtol=1e-4, atol=2e-5)
    assert worked_on == [(2, 101), (5, 5)]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_fewer_bits_cost_little(switch: dict[str, object], precision: Precision) -> None:
    model = make_model(**switch, width=32)
    batch = batch_of(model, full_sequences([3, 0, 25, 1, 9, 5] * 3))
    state, exact = InferenceUGT(model, precision).encode(batch), encoded(model, batch)
    assert state.dtype == torch.float32
    error = (state - exact).square().mean().sqrt().item()
    assert TOLERANCES["fp32"] < error < TOLERANCES[precision]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_row_does_not_depend_on_the_rows_beside_it(precision: Precision) -> None:
    model = make_model(width=32)
    sequences = full_sequences([5] * 9)
    policy = InferenceUGT(model, precision)
    together = policy.encode(batch_of(model, sequences))
    alone = policy.encode(batch_of(model, sequences.take(np.array([4]))))
    torch.testing.assert_close(together[4:5], alone, rtol=0, atol=1e-5 + TOLERANCES[precision] / 10)


def random_tree_model(seed: int, codes_a_level: int, items: int) -> UGT:
    """A model over random codes, whose deepest level branches."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, codes_a_level, (items, 3), generator=generator)
    content = torch.randn(items, 5, generator=generator)
    shape = UGTShape(ModelConfig(width=16, blocks=1, heads=2, max_events=4), temperature=0.1)
    model = UGT(ItemFeatures(codes, (codes_a_level,) * 3, content), shape).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn(one.shape, generator=generator) * 0.3)
    return model


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    codes=st.integers(2, 9),
    items=st.integers(1, 300),
    table=st.booleans(),
    copy_cost=st.sampled_from([0, 8, 10**6]),
    rows=st.sampled_from([1, 3]),
)
def test_log_probabilities_are_those_of_the_model(
    seed: int, codes: int, items: int, table: bool, copy_cost: int, rows: int
) -> None:
    """Known prefixes and unknown ones, by table and by list, by whole products and by copies."""
    model = random_tree_model(seed, codes, items)
    states = torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asterism.models.ugt.inference.code_scores._COPY_COST", copy_cost)
        patch.setattr("asterism.models.ugt.inference.code_scores._AT_ONCE", 7)
        if not table:
            patch.setattr("asterism.models.ugt.inference.code_scores._TABLE_CHILDREN", 0)
        policy = InferenceUGT(model)
        for level in range(3):
            prefixes = torch.randint(0, codes, (rows, 5, level), generator=torch.Generator().manual_seed(seed + level))
            with torch.inference_mode():
                expected = model.next_code_log_probs(states, prefixes)
            found = policy.next_code_log_probs(states, prefixes)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found.exp().sum(-1), torch.ones(rows, 5))


def test_large_levels_in_bf16_are_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asterism.models.ugt.inference.code_scores._SMALL_LEVEL", 0)
    model = random_tree_model(0, 9, 300)
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    for level in range(3):
        prefixes = model.items.codes[:15, :level].view(3, 5, level)
        with torch.inference_mode():
            expected = model.next_code_log_probs(states, prefixes)
        found = InferenceUGT(model, "bf16").next_code_log_probs(states, prefixes)
        error = (found - expected).abs().max().item()
        assert 0 < error < 0.1, "scores are ten times a cosine of some 8 bits"


def test_item_scores_are_exact_in_every_precision() -> None:
    model = make_model(recency_pooling=True)
    batch = batch_of(model, full_sequences([3, 0, 25]))
    state = encoded(model, batch)
    candidates = torch.tensor([[0, 3], [5, 5], [11, 1]])
    for precision in TOLERANCES:
        policy = InferenceUGT(model, precision)
        with torch.inference_mode():
            torch.testing.assert_close(policy.item_scores(state), model.item_scores(state))
            torch.testing.assert_close(policy.item_scores(state, candidates), model.item_scores(state, candidates))
    assert policy.item_scores(state).shape == (3, ITEMS)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6))
def test_bias_rows_hold_the_buckets_of_the_reference(moments: list[int]) -> None:
    times = torch.tensor([sorted(moments)])
    rows = BiasRows(10, 0).of_pairs(times, torch.ones_like(times, dtype=torch.bool))[0]
    for query in range(len(moments)):
        for key in range(len(moments)):
            bucket = gap_bucket((times[0, query] - times[0, key]).clamp(min=0))
            expected = (query - key) * 32 + int(bucket) if key <= query else 320
            assert rows[query, key] == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_packed_map_is_the_map(precision: Precision) -> None:
    torch.manual_seed(0)
    weight, bias, inputs = torch.randn(24, 16), torch.randn(24), torch.randn(2, 3, 16)
    expected = inputs @ weight.T + bias
    found = packed(weight, bias, precision)(inputs.to(torch.float32 if precision == "fp32" else torch.bfloat16))
    assert found.shape == (2, 3, 24)
    tolerance = {"fp32": 1e-5, "bf16": 0.08, "int8": 0.15}[precision]
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=tolerance)


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="eval mode"):
        InferenceUGT(make_model().train())
