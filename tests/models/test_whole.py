"""All layers in one call answer what the layers answer one by one, for histories of any length and kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.models.ugt.inference import InferenceUGT
from asterism.models.ugt.inference import resumption as resuming
from asterism.models.ugt.inference.whole import WholeEncoder
from models.small_ugt import batch_of, full_sequences, make_model

WIDE = {"width": 64, "heads": 4, "blocks": 3, "max_events": 70}
READ: list[dict[str, object]] = [{}, {"actions": True, "values": True, "time_gaps": True}, {"recency_pooling": True}]


def both(switch: dict[str, object]) -> tuple[InferenceUGT, InferenceUGT]:
    model = make_model(**WIDE, **switch)
    whole, by_layer = InferenceUGT(model, "bf16"), InferenceUGT(model, "bf16")
    if whole.encoder.is_whole:
        by_layer.encoder.work_by_layer()
        return whole, by_layer
    pytest.skip("this processor has no tiles of bfloat16, or there is no compiler")


@pytest.mark.parametrize("switch", READ, ids=["plain", "actions", "pooling"])
def test_states_are_as_near_to_the_exact_ones_as_those_of_single_layers(switch: dict[str, object]) -> None:
    whole, by_layer = both(switch)
    batch = batch_of(whole.encoder.model, full_sequences([3, 0, 66, 1, 49, 48, 17, 16, 33, 70, 64, 65]))
    with torch.inference_mode():
        exact = whole.encoder.model.encode(batch)
    errors = [(one.encode(batch) - exact).square().mean().sqrt().item() for one in (whole, by_layer)]
    assert 1e-6 < errors[0] < 1.2 * errors[1] + 1e-4


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(0, 90), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_row_is_the_same_whatever_stands_beside_it(lengths: list[int], seed: int) -> None:
    whole, _ = both({})
    batch = batch_of(whole.encoder.model, full_sequences(lengths, seed))
    together = whole.encode(batch)
    for row in range(len(lengths)):
        alone = replace(
            batch, items=batch.items[[row]], timestamps=batch.timestamps[[row]], actions=batch.actions[[row]]
        )
        assert torch.equal(whole.encode(alone)[0], together[row])


def test_what_is_kept_of_events_is_what_layers_keep() -> None:
    whole, by_layer = both({})
    batch = batch_of(whole.encoder.model, full_sequences([70, 5, 31]))
    found, expected = (one.encoder.blocks_of(batch, keep=True).kept for one in (whole, by_layer))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float()[batch.mask], other.float()[batch.mask], rtol=0.03, atol=0.15)
        assert (one.float()[batch.mask] - other.float()[batch.mask]).abs().mean() < 0.01


def test_moments_out_of_order_and_far_apart_are_read_as_layers_read_them() -> None:
    whole, by_layer = both({"time_gaps": False})
    batch = batch_of(whole.encoder.model, full_sequences([40, 70]))
    moments = torch.randint(-(2**40), 2**40, batch.timestamps.shape, generator=torch.Generator().manual_seed(0))
    moments[:, ::3] = moments[:, 1::3][:, :1] + torch.randint(0, 90, moments[:, ::3].shape)
    batch = replace(batch, timestamps=moments * batch.mask)
    found, expected = whole.encode(batch), by_layer.encode(batch)
    assert (found - expected).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("other", [{"width": 48}, {"group_norm": True}, {"experts": 1}, {"user_attributes": True}])
def test_other_models_are_left_to_their_layers(other: dict[str, object]) -> None:
    model = make_model(**{**WIDE, **other})
    assert WholeEncoder.of(model, model.items.all().detach(), "bf16") is None
    assert WholeEncoder.of(make_model(**WIDE), model.items.all().detach(), "fp32") is None


@settings(max_examples=40)
@given(seed=st.integers(0, 999), rows=st.integers(1, 5), switch=st.sampled_from([*READ, {"contexts": True}]))
def test_fingerprints_and_new_events_are_those_of_torch(seed: int, rows: int, switch: dict[str, object]) -> None:
    if resuming._functions() is None:
        pytest.skip("no C++ compiler here")
    events, random = 12, torch.Generator().manual_seed(seed)
    model = make_model(max_events=events, **switch)
    lengths = torch.randint(0, events + 1, (rows,), generator=random).tolist()
    batch = batch_of(model, full_sequences(lengths, seed))
    found = resuming.fingerprints(batch, events)
    policy = InferenceUGT(model)
    memory = resuming.Memory(resuming.memory_shape(policy.encoder, compressed=False), 4)
    memory.newest[:] = torch.randint(0, events, (4,), generator=random)
    slots, of_rows = torch.randint(0, 4, (2, 6), generator=random)
    of_rows %= rows
    for slot, row in zip(slots.tolist(), of_rows.tolist(), strict=True):  # remembered as the row was some events before
        older = int(torch.randint(0, events, (1,), generator=random))
        ring = (memory.newest[slot] + 1 + torch.arange(events)) % events
        memory.prints[slot, ring] = torch.cat([torch.zeros(older, dtype=torch.long), found[row, : events - older]])
    most = int(torch.randint(0, 9, (1,), generator=random))
    new = resuming.count_new(memory, slots, found, of_rows, most)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resuming, "_functions", lambda: None)
        assert torch.equal(resuming.fingerprints(batch, events), found)
        assert torch.equal(resuming.count_new(memory, slots, found, of_rows, most), new)


def test_an_item_that_the_model_does_not_know_is_refused_in_one_call_as_by_layers() -> None:
    whole, by_layer = both({})
    batch = batch_of(whole.encoder.model, full_sequences([3, 9]))
    known = len(whole.encoder.model.item_directions())
    for item in (known, known + 50, 10**9):
        items = batch.items.clone()
        items[1, -2] = item
        for one in (whole, by_layer):
            with pytest.raises(IndexError):
                one.encode(replace(batch, items=items))
    assert torch.isfinite(whole.encode(batch)).all()


def test_fingerprints_of_more_events_than_are_read_are_those_of_the_newest() -> None:
    batch = batch_of(make_model(**WIDE), full_sequences([70, 5, 31]))
    for events in (1, 5, 69, 70, 71):
        columns = [batch.items, batch.timestamps, batch.actions]
        assert torch.equal(resuming.fingerprints(batch, events), resuming._fingerprints(columns, batch.mask, events))
