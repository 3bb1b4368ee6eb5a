"""The groups of an event by hand: buckets, the sum, Group Layer Norm, and what counts as missing."""

from __future__ import annotations

from dataclasses import replace

import torch

from asterism.core.records import ACTION_CODES
from asterism.models.histories import AskedBatch
from asterism.models.policy import HistoryBatch
from asterism.models.ugt.buckets import HASH_BUCKETS, VALUE_BUCKETS, gap_bucket, hash_bucket, value_bucket
from asterism.models.ugt.events import action_places, context_places
from asterism.models.ugt.group_norm import GroupLayerNorm
from models.small_ugt import batch_of, event_vector, full_sequences, make_model

RATING, VIEW = ACTION_CODES["rating"], ACTION_CODES["view"]


def events() -> HistoryBatch:
    """One user with two events after a padded column: a rating of 5, and 100 seconds later a view without a value."""
    return HistoryBatch(
        items=torch.tensor([[-1, 3, 4]]),
        timestamps=torch.tensor([[0, 1000, 1100]]),
        actions=torch.tensor([[0, RATING, VIEW]]),
        values=torch.tensor([[torch.nan, 5.0, torch.nan]]),
        scenes=torch.tensor([[0, 7, 2000]]),
        asked=AskedBatch(torch.tensor([1107]), scenes=torch.tensor([9])),
    )


def test_buckets_by_hand() -> None:
    assert gap_bucket(torch.tensor([0, 1, 2, 3, 6, 7, 2**40])).tolist() == [0, 1, 1, 2, 2, 3, 31]
    # 8 log2(1 + v): 0 → 0, 1 → 8, 3 → 16, 3.5 → 17.4, 4 → 18.6, 5 → 20.7
    values = torch.tensor([0.0, 1.0, 3.0, 3.5, 4.0, 5.0, -1.0, torch.nan, torch.inf, -torch.inf, 1e30])
    assert value_bucket(values).tolist() == [129, 137, 145, 146, 147, 149, 121, 0, 257, 1, 257]
    assert hash_bucket(torch.tensor([0, 1, 1024, 1025, 65_535])).tolist() == [0, 1, 1024, 1, 1023]
    assert int(value_bucket(values).max()) == VALUE_BUCKETS - 1


def test_action_places_by_hand() -> None:
    places = action_places(events())
    assert places["kind"].tolist() == [[0, RATING, VIEW]]
    assert places["value"].tolist() == [[0, RATING * VALUE_BUCKETS + 149, 0]]
    assert action_places(replace(events(), values=None))["value"].tolist() == [[0, 0, 0]]


def test_context_places_by_hand() -> None:
    places = {name: place[0, 1:].tolist() for name, place in context_places(events()).items()}
    assert places == {
        "gap": [0, 1 + 6],  # no event before the first; 100 s lie in [63, 127)
        "scene": [7, 2000 - HASH_BUCKETS],
        "device": [0, 0],
        "asked_gap": [1 + 6, 1 + 3],  # the request comes 7 s after the newest event
        "asked_scene": [2000 - HASH_BUCKETS, 9],
        "asked_device": [0, 0],
    }
    unasked = context_places(replace(events(), asked=None))
    assert (unasked["asked_gap"][0, -1].item(), unasked["asked_scene"][0, -1].item()) == (0, 0)


def test_a_clock_that_runs_backwards_is_no_gap() -> None:
    early = replace(events(), asked=AskedBatch(torch.tensor([500])))
    assert context_places(early)["asked_gap"][0, -1].item() == 1


def test_an_event_is_the_sum_of_its_groups() -> None:
    model = make_model(actions=True, values=True, time_gaps=True, contexts=True)
    items = torch.randn(2, 8)  # of the two events
    action, context = model.events.action, model.events.context
    by_hand = (
        items[0]
        + action["kind"].weight[RATING]
        + action["value"].weight[RATING * VALUE_BUCKETS + 149]
        + context["gap"].weight[0]
        + context["scene"].weight[7]
        + context["device"].weight[0]
    )
    torch.testing.assert_close(model.events(items, events())[0], by_hand)
    assert set(context) == {"gap", "scene", "device"}, "what is asked is switched off"


def test_group_layer_norm_by_hand() -> None:
    norm = GroupLayerNorm(2, 4)
    with torch.no_grad():
        norm.scale[1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        norm.shift[1] = 10.0
    states = torch.tensor([[1.0, 3.0, 1.0, 3.0], [5.0, 5.0, 1.0, 1.0]])  # mean 2, deviation 1; mean 3, deviation 2
    apart = norm(states, torch.tensor([0, 1]))
    by_hand = torch.tensor([[-1.0, 1.0, -1.0, 1.0], [10 + 1.0, 10 + 2.0, 10 - 3.0, 10 - 4.0]])
    torch.testing.assert_close(apart, by_hand, rtol=0, atol=3e-5)
    torch.testing.assert_close(norm(states, 1)[1], by_hand[1], rtol=0, atol=3e-5)


def test_each_group_of_an_event_is_normalised_by_itself() -> None:
    model = make_model(actions=True, contexts=True, group_norm=True)
    norm, items = model.events.norm, torch.randn(2, 8)
    assert norm is not None
    assert len(norm.scale) == 3
    parts = [
        items[0],
        model.events.action["kind"].weight[RATING],
        model.events.context["scene"].weight[7] + model.events.context["device"].weight[0],
    ]
    by_hand = sum(
        (part - part.mean()) / (part.var(unbiased=False) + 1e-5).sqrt() * norm.scale[group] + norm.shift[group]
        for group, part in enumerate(parts)
    )
    torch.testing.assert_close(model.events(items, events())[0], by_hand)


def test_tokens_of_different_groups_are_normalised_apart_inside_blocks() -> None:
    model = make_model(user_attributes=True, summaries=2, max_history=20, group_norm=True)
    batch = batch_of(model, full_sequences([9]))
    tokens = model.prefix(event_vector(model, batch.items[batch.mask]), model.start, batch, model.items, model.seen)
    assert tokens.groups.tolist() == [1, 2, 0, 0, 0, 0, 0]
    assert tokens.packing.places.tolist() == [0, 2, 3, 4, 5, 6, 7], "the older window is empty"
    with torch.no_grad():
        before = model(batch)
        model.blocks[0].norm.scale[2] *= 2  # type: ignore[union-attr,index]
        assert not torch.allclose(before, model(batch)), "the windows' own scale matters to what events read of them"


def test_a_user_token_is_the_sum_of_known_attributes() -> None:
    model = make_model(user_attributes=True)
    user = model.prefix.user
    assert user is not None
    codes = torch.tensor([[5, 0, 1030], [0, 0, 0]])
    torch.testing.assert_close(user(codes, 2)[0], user.vectors.weight[5] + user.vectors.weight[1030 - HASH_BUCKETS])
    torch.testing.assert_close(user(codes, 2)[1], torch.zeros(8))
    torch.testing.assert_close(user(None, 2), torch.zeros(2, 8))


def test_a_user_without_events_starts_from_their_attributes() -> None:
    model = make_model(user_attributes=True)
    with torch.inference_mode():
        sequences = full_sequences([0, 0, 2], seed=1)
        states = model.encode(batch_of(model, sequences))
        assert sequences.attributes is not None
        codes = torch.from_numpy(sequences.attributes[:1]).long()
        by_hand = model.norm(model.start + model.prefix.user(codes, 1)[0])  # type: ignore[misc]
        torch.testing.assert_close(states[0, :8], by_hand)
        assert not torch.allclose(states[0], states[1])
