"""All layers in one call answer what the layers answer one by one, for histories of any length and kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.models.histories import HistoryBatch
from asterism.models.ugt.inference import InferenceUGT
from asterism.models.ugt.inference import resumption as resuming
from asterism.models.ugt.inference.memory import Memory
from asterism.models.ugt.inference.resumption import NewEvents, advance, fingerprints, memory_shape, remember
from asterism.models.ugt.inference.whole import Keeping, WholeEncoder
from models.small_ugt import batch_of, full_sequences, make_model

WIDE = {"width": 64, "heads": 4, "blocks": 3, "max_events": 70}
READ: list[dict[str, object]] = [{}, {"actions": True, "values": True, "time_gaps": True}, {"recency_pooling": True}]


def both(switch: dict[str, object]) -> tuple[InferenceUGT, InferenceUGT]:
    model = make_model(**WIDE, **switch)
    whole, by_layer = InferenceUGT(model, "bf16"), InferenceUGT(model, "bf16")
    if whole.encoder.whole:
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


def remembering(policy: InferenceUGT, batch: HistoryBatch, slots: list[int]) -> tuple[Memory, Tensor]:
    encoder = policy.encoder
    memory = Memory(memory_shape(encoder, compressed=False), 6)
    prints = fingerprints(batch, encoder.max_events)
    return memory, remember(encoder, batch, Keeping(memory, torch.tensor(slots), prints))


def apart(policy: InferenceUGT, left: Tensor, right: Tensor) -> float:
    """The error of one beside the other, of states whose numbers are about one."""
    norm = policy.encoder.model.norm
    with torch.inference_mode():
        return (norm(left) - norm(right)).square().mean().sqrt().item()


def assert_alike(one: Memory, other: Memory, slots: list[int]) -> None:
    """Wherever events stand in their rings."""
    for slot in slots:
        length = int(one.lengths[slot])
        assert (length, one.slides[slot]) == (other.lengths[slot], other.slides[slot])
        rings = [
            (memory.newest[slot] - length + 1 + torch.arange(length)) % one.shape.events for memory in (one, other)
        ]
        for name in ("prints", "moments"):
            left, right = (getattr(memory, name)[slot, ring] for memory, ring in zip((one, other), rings, strict=True))
            assert torch.equal(left, right), name
        for found, expected in zip(one.layers, other.layers, strict=True):
            left, right = found[slot, rings[0]].float(), expected[slot, rings[1]].float()
            assert (left - right).abs().mean() < 0.03, "of numbers about one"
        assert torch.equal(one.in_order(torch.tensor([slot])), other.in_order(torch.tensor([slot])))


@pytest.mark.parametrize("switch", READ, ids=["plain", "actions", "pooling"])
def test_what_is_remembered_of_events_is_what_layers_remember(switch: dict[str, object]) -> None:
    whole, by_layer = both(switch)
    batch = batch_of(whole.encoder.model, full_sequences([70, 5, 31, 1, 12]))
    slots = [4, 0, -1, 5, 2]
    (found, states), (expected, by_layers) = (remembering(one, batch, slots) for one in (whole, by_layer))
    assert_alike(found, expected, [4, 0, 5, 2])
    assert all(not layer[[1, 3]].any() for layer in found.layers), "somebody else's room"
    torch.testing.assert_close(states, found.states[slots].where(torch.tensor(slots)[:, None] >= 0, states))
    assert apart(whole, states, by_layers) < 0.02
    assert torch.equal(whole.encoder.newest(batch), states), "to remember changes no answer"


@settings(max_examples=25)
@given(
    starts=st.lists(st.integers(1, 75), min_size=1, max_size=6),
    steps=st.lists(st.integers(1, 63), min_size=1, max_size=12),
    seed=st.integers(0, 99),
    switch=st.sampled_from(READ[:2]),
)
def test_new_events_are_taken_in_as_by_layers(
    starts: list[int], steps: list[int], seed: int, switch: dict[str, object]
) -> None:
    """Some users' after others', into rings that are filling and into full ones; each step names its users by bits."""
    whole, by_layer = both(switch)
    model, random = whole.encoder.model, torch.Generator().manual_seed(seed)
    sequences = full_sequences([one + len(steps) for one in starts], seed)
    slots = torch.randperm(6, generator=random)[: len(starts)]
    lengths = list(starts)

    def batch() -> HistoryBatch:
        first = sequences.offsets[:-1]
        return batch_of(model, sequences.slices(first, first + np.array(lengths)))

    memories = [remembering(one, batch(), slots.tolist())[0] for one in (whole, by_layer)]
    for step in steps:
        users = [user for user in range(len(starts)) if step >> user & 1]
        if not users:
            continue
        lengths = [length + (user in users) for user, length in enumerate(lengths)]
        now = batch()
        new = NewEvents(now, fingerprints(now, 70), torch.tensor(users), 1)
        for policy, memory in zip((whole, by_layer), memories, strict=True):
            advance(policy.encoder, memory, slots[users], new)
    assert_alike(*memories, slots.tolist())
    assert apart(whole, *(one.states[slots] for one in memories)) < 0.02


def test_an_event_unknown_to_the_model_is_taken_in_nowhere() -> None:
    whole, _ = both({})
    batch = batch_of(whole.encoder.model, full_sequences([3, 9]))
    memory, _ = remembering(whole, batch, [1, 2])
    before = [one.clone() for one in (*memory.layers, memory.prints, memory.lengths, memory.newest, memory.states)]
    unknown = replace(batch, items=torch.where(batch.items == batch.items[1, -1], 10**6, batch.items))
    prints = fingerprints(unknown, 70)
    with pytest.raises(IndexError, match="none of the"):
        advance(whole.encoder, memory, torch.tensor([1, 2]), NewEvents(unknown, prints, torch.tensor([0, 1]), 1))
    with pytest.raises(IndexError, match="none of the"):
        remember(whole.encoder, unknown, Keeping(memory, torch.tensor([2, 1]), prints))
    after = (*memory.layers, memory.prints, memory.lengths, memory.newest, memory.states)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


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
    memory.lengths[:] = torch.randint(0, events + 1, (4,), generator=random)
    memory.slides[:] = torch.randint(0, 3, (4,), generator=random)
    most, most_slides = torch.randint(0, 9, (2,), generator=random).tolist()
    limits = resuming.Limits(most, most_slides)
    new = resuming.count_new(memory, slots, found, of_rows, limits)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resuming, "_functions", lambda: None)
        assert torch.equal(resuming.fingerprints(batch, events), found)
        assert torch.equal(resuming.count_new(memory, slots, found, of_rows, limits), new)


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
