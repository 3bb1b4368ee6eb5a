"""Compiled code answers what torch answers, for every width, number of heads, length and switch."""

from __future__ import annotations

import logging
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from asterism.decoding.state_cache import CacheLimits, StateCache
from asterism.models.ugt import UGT
from asterism.models.ugt.inference import InferenceUGT, Precision
from asterism.models.ugt.inference.fused import FusedAttention
from asterism.models.ugt.inference.siblings import Siblings
from asterism.models.ugt.inference.whole import WholeEncoder
from models.small_ugt import EVERYTHING, batch_of, full_sequences, make_model

pytestmark = pytest.mark.skipif(not FusedAttention.there_is(torch.float32, 16), reason="no C++ compiler here")

#: Depths of heads: of 16 and of 64 (whole vectors), of 8 (half of one), of 24 (one and a half).
SHAPES: list[dict[str, object]] = [
    {"width": 32, "heads": 2, "max_events": 5},
    {"width": 128, "heads": 2, "max_events": 50},
    {"width": 32, "heads": 4, "max_events": 33},
    {"width": 48, "heads": 2, "max_events": 66, "blocks": 3},
    {**EVERYTHING, "width": 32},
]
LENGTHS = [3, 0, 70, 1, 9, 33]
CLOSE: dict[Precision, float] = {"fp32": 2e-5, "bf16": 0.15, "int8": 0.4}


def by_torch(model: UGT, precision: Precision, monkeypatch: pytest.MonkeyPatch) -> InferenceUGT:
    with monkeypatch.context() as patched:
        patched.setattr(FusedAttention, "there_is", staticmethod(lambda kind, width: False))
        patched.setattr(Siblings, "of", classmethod(lambda cls, levels, temperature: None))
        patched.setattr(WholeEncoder, "of", classmethod(lambda cls, model, inputs, precision: None))
        return InferenceUGT(model, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda one: f"{one['width']}")
def test_states_are_the_same(shape: dict[str, object], precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(**shape)
    batch = batch_of(model, full_sequences(LENGTHS))
    found, expected = InferenceUGT(model, precision), by_torch(model, precision, monkeypatch)
    assert found.encoder.blocks[0].is_fused
    assert not expected.encoder.blocks[0].is_fused
    torch.testing.assert_close(found.encode(batch), expected.encode(batch), rtol=0, atol=CLOSE[precision])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES[:4], ids=lambda one: f"{one['width']}")
def test_users_who_return_are_the_same(
    shape: dict[str, object], precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(**shape)
    histories = full_sequences([12, 4, 30])
    ends = histories.offsets[1:] - np.array([1, 1, 2])
    whole, before = batch_of(model, histories), batch_of(model, histories.slices(histories.offsets[:-1], ends))
    answers = []
    for policy in (InferenceUGT(model, precision), by_torch(model, precision, monkeypatch)):
        cache = StateCache(policy, CacheLimits(1 << 24, most_slides=99))
        cache.encode(before, ["ann", "bob", "eve"])
        answers.append(cache.encode(whole, ["ann", "bob", "eve"]))
        assert cache.counts.advanced == 3
    torch.testing.assert_close(*answers, rtol=0, atol=CLOSE[precision])


def test_silu_is_exact_to_seven_digits_from_end_to_end() -> None:
    """What is kept of values is their SiLU; as tiny numbers are slow, far below it is zero rather than next to it."""
    ends = [-3e38, -1e4, -88.0, -87.01, -87.0, 87.0, 88.0, 1e4, 3e38, torch.nan]
    values = torch.cat([torch.linspace(-20, 20, 16_000), torch.linspace(-86, 86, 374), torch.tensor(ends)])
    expanded = torch.zeros(1, len(values) // 16, 64)
    expanded[0, :, 16:32] = values.reshape(-1, 16)
    attention = FusedAttention(torch.float32, torch.zeros(1, 1), torch.ones(16), torch.zeros(16), 1e-6, 1)
    _, kept = attention.every(expanded, torch.zeros(1, *[len(values) // 16] * 2, dtype=torch.int32), keep=True)
    assert kept is not None
    found = kept[0, :, :16].flatten().double()
    exact = torch.where(values < -87, 0, functional.silu(values.double()))
    torch.testing.assert_close(found, exact, rtol=2e-6, atol=2e-7, equal_nan=True)
    assert (found[values < -87] == 0).all()


def test_a_state_that_is_no_number_stays_none() -> None:
    model = make_model(width=32)
    with torch.no_grad():
        model.blocks[0].expand.weight[3] = torch.nan
    assert InferenceUGT(model).encode(batch_of(model, full_sequences([4]))).isnan().any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_single_steps_are_scored_as_whole_levels_are(level: int, precision: Precision) -> None:
    """Prefixes that the tree knows and others, and codes that their parents were seen with and others."""
    policy = InferenceUGT(make_model(width=32), precision)
    state = torch.randn(4, 32)
    known = [list(one) for one in product(range(3), range(4))] if level == 2 else [[one] * level for one in range(3)]
    prefixes = torch.tensor(known).long().expand(4, -1, -1).contiguous()
    whole = policy.next_code_log_probs(state, prefixes).flatten(0, 1)
    asked = (torch.rand(whole.shape) < 0.6).nonzero().int()
    origins, codes = asked[:, 0].contiguous(), asked[:, 1].contiguous()
    found: Tensor = policy.step_log_probs(state, prefixes, origins, codes)
    torch.testing.assert_close(found, whole[origins.long(), codes.long()], rtol=1e-5, atol=1e-5)


def test_other_widths_are_left_to_torch_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not InferenceUGT(make_model(width=8)).encoder.blocks[0].is_fused
    assert not caplog.records
