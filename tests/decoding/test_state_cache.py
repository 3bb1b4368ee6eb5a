"""A remembered user is answered as if all had been computed, or is computed anew; memory stays within its bound."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.errors import ConfigError, RequestError
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.doorkeeper import Doorkeeper
from asterism.decoding.generator import Generator
from asterism.decoding.state_cache import CacheLimits, StateCache
from asterism.models.histories import HistoryBatch
from asterism.models.ugt import UGT
from asterism.models.ugt.inference import InferenceUGT
from models.small_ugt import EVERYTHING, MAX_EVENTS, batch_of, full_sequences, make_features, make_model

RESUMED: list[dict[str, object]] = [
    {},
    {"recency_pooling": True},
    {"actions": True, "values": True, "time_gaps": True},
    {"contexts": True, "group_norm": True},
    {"experts": 1},
    {"experts": 4, "expert_top_k": 2},
]
NAMES = ["+".join(switch) or "plain" for switch in RESUMED]
PLENTY = 1 << 20


def cut(sequences: Sequences, lengths: list[int]) -> Sequences:
    """The first events of each row."""
    starts = sequences.offsets[:-1]
    return sequences.slices(starts, starts + np.array(lengths))


def full(model: UGT, histories: HistoryBatch) -> Tensor:
    with torch.inference_mode():
        return model.encode(histories)


def assert_states(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("switch", RESUMED, ids=NAMES)
def test_growing_histories_are_answered_as_if_computed_anew(switch: dict[str, object]) -> None:
    """From no event to as many as the model reads, some rows faster than others."""
    model = make_model(**switch)
    cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY))
    whole = full_sequences([MAX_EVENTS] * 3)
    for events in range(MAX_EVENTS + 1):
        histories = batch_of(model, cut(whole, [events, min(MAX_EVENTS, 2 * events), max(0, events - 1)]))
        assert_states(cache.encode(histories, ["a", "b", "c"]), full(model, histories))
    counts = cache.counts
    # "b" is full after three rounds; "c" begins in the second.
    assert (counts.missed, counts.advanced, counts.repeated) == (3, 4 + 2 + 3, 2)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.lists(st.integers(0, 3 * MAX_EVENTS), min_size=3, max_size=3), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    switch=st.sampled_from(RESUMED),
    users=st.integers(1, 4),
)
def test_any_order_of_histories_gives_the_full_answer(
    lengths: list[list[int]], seed: int, switch: dict[str, object], users: int
) -> None:
    """Grown, shortened and repeated ones, beyond what the model reads, with little room and without compression."""
    model = make_model(**switch)
    policy = InferenceUGT(model)
    bytes_a_user = StateCache(policy, CacheLimits(max_bytes=PLENTY))._hot.user_bytes
    cache = StateCache(policy, CacheLimits(max_bytes=bytes_a_user * users, compressed_share=0.0))
    whole = full_sequences([3 * MAX_EVENTS] * 3, seed)
    for one in lengths:
        histories = batch_of(model, cut(whole, one))
        assert_states(cache.encode(histories, ["a", "b", "c"]), full(model, histories))
        assert cache.bytes <= bytes_a_user * users


def test_a_changed_history_is_a_miss() -> None:
    model = make_model(actions=True, values=True, contexts=True)
    whole = full_sequences([MAX_EVENTS])
    columns = ("items", "timestamps", "actions", "values", "scenes", "devices")
    for column in columns:
        cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY))
        cache.encode(batch_of(model, cut(whole, [3])), ["a"])
        changed = getattr(whole, column).copy()
        changed[1] = 4 if changed[1] == 3 else 3
        histories = batch_of(model, replace(cut(whole, [4]), **{column: changed[:4]}))
        assert_states(cache.encode(histories, ["a"]), full(model, histories))
        assert (cache.counts.missed, cache.counts.advanced) == (2, 0), column


def test_a_user_beyond_the_window_is_computed_anew_or_resumed_for_a_while() -> None:
    model = make_model()
    whole = full_sequences([4 * MAX_EVENTS])
    exact, near = (
        StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY, most_slides=slides)) for slides in (0, 2)
    )
    for events in range(MAX_EVENTS, MAX_EVENTS + 7):
        histories = batch_of(model, cut(whole, [events]))
        assert_states(exact.encode(histories, ["a"]), full(model, histories))
        near.encode(histories, ["a"])
    assert (exact.counts.missed, exact.counts.advanced) == (7, 0)
    assert (near.counts.missed, near.counts.advanced) == (3, 4), "anew, two slides, anew, two slides, anew"


def test_the_first_layer_of_a_slid_window_is_exact() -> None:
    """With one layer nothing that is remembered has seen the event that leaves."""
    model = make_model(blocks=1)
    cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY, most_slides=10**6))
    whole = full_sequences([4 * MAX_EVENTS])
    for events in range(1, 4 * MAX_EVENTS):
        histories = batch_of(model, cut(whole, [events]))
        assert_states(cache.encode(histories, ["a"]), full(model, histories))
    assert cache.counts.missed == 1


@pytest.mark.parametrize(
    "switch",
    [{"user_attributes": True}, {"asked": True}, {"summaries": 3, "max_history": 20}, EVERYTHING],
    ids=["user_attributes", "asked", "summaries", "everything"],
)
def test_what_cannot_be_resumed_is_computed_in_full(switch: dict[str, object]) -> None:
    model = make_model(**switch)
    cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=1))
    assert not cache.resumes
    whole = full_sequences([9, 3])
    for lengths in ([2, 1], [3, 1], [9, 3]):
        histories = batch_of(model, cut(whole, lengths))
        assert_states(cache.encode(histories, ["a", "b"]), full(model, histories))
    assert len(cache) == 0


def test_who_was_asked_for_longest_ago_is_compressed_then_thrown_away() -> None:
    model = make_model()
    policy = InferenceUGT(model)
    sizes = StateCache(policy, CacheLimits(max_bytes=PLENTY))
    hot, cold = sizes._hot.user_bytes, sizes._cold.user_bytes
    assert cold < 0.6 * hot
    room = 2 * (hot + cold)
    cache = StateCache(policy, CacheLimits(max_bytes=room + 2, compressed_share=(2 * cold + 1) / (room + 2)))
    histories = batch_of(model, full_sequences([3]))
    for key in "abacd":  # "a" is newer than "b"
        cache.encode(histories, [key])
    assert (len(cache), cache.bytes, cache.counts.evicted) == (4, room, 0)
    assert all(key in cache._hot for key in "cd")
    assert all(key in cache._cold for key in "ab")
    cache.encode(histories, ["e"])  # "c" is compressed, "b" has to go
    assert ("b" in cache, cache.counts.evicted, len(cache)) == (False, 1, 4)
    cache.encode(histories, ["a"])  # comes back in the place of "d"
    assert ("a" in cache._hot, "d" in cache._cold, cache.counts.warmed) == (True, True, 1)
    assert cache.bytes <= room


def test_nobody_is_compressed_where_one_call_reads_a_history() -> None:
    policy = InferenceUGT(make_model(width=32), "bf16")
    hot = StateCache(policy, CacheLimits(max_bytes=PLENTY))._hot.user_bytes
    limits = CacheLimits(max_bytes=8 * hot, compressed_share=0.5)
    places = [StateCache(policy, limits)]
    policy.encoder.work_by_layer()
    places.append(StateCache(policy, limits))
    whole = InferenceUGT(make_model(width=32), "bf16").encoder.whole
    assert (places[0]._hot.capacity, places[0]._cold.capacity == 0) == ((8, True) if whole else (4, False))
    assert (places[1]._hot.capacity, places[1]._cold.capacity == 0) == (4, False)


def test_a_compressed_user_is_answered_nearly_as_well() -> None:
    model = make_model(width=32)
    policy = InferenceUGT(model)
    whole = full_sequences([MAX_EVENTS] * 2)
    hot = StateCache(policy, CacheLimits(max_bytes=PLENTY))._hot.user_bytes
    cache = StateCache(policy, CacheLimits(max_bytes=2 * hot + 2, compressed_share=0.5))
    cache.encode(batch_of(model, cut(whole, [4, 0])), ["a", None])
    cache.encode(batch_of(model, cut(whole, [0, 4])), [None, "b"])  # "a" is compressed
    histories = batch_of(model, cut(whole, [5, 0]))
    error = (cache.encode(histories, ["a", None]) - full(model, histories)).square().mean().sqrt().item()
    assert (cache.counts.warmed, cache.counts.advanced) == (1, 1)
    assert 1e-6 < error < 0.02, "states are about one; 127 steps are kept of the older keys and values"


def test_rows_without_a_key_and_the_same_user_twice() -> None:
    model = make_model()
    cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY))
    whole = full_sequences([3, 4, 2, 0])
    histories = batch_of(model, whole)
    for _ in range(2):
        assert_states(cache.encode(histories, ["a", "a", None, "b"]), full(model, histories))
    assert (cache.counts.missed, cache.counts.repeated, len(cache)) == (1, 1, 1), "a user without events is not kept"


def test_more_users_than_find_room_in_one_batch() -> None:
    model = make_model()
    policy = InferenceUGT(model)
    hot = StateCache(policy, CacheLimits(max_bytes=PLENTY))._hot.user_bytes
    cache = StateCache(policy, CacheLimits(max_bytes=2 * hot, compressed_share=0.0))
    histories = batch_of(model, full_sequences([3, 4, 2, 5, 1]))
    for keys in ("abcde", "edcba", "caebd"):
        assert_states(cache.encode(histories, list(keys)), full(model, histories))
        assert len(cache) == 2


def test_only_who_comes_again_is_kept() -> None:
    model = make_model()
    cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY, only_returning=True))
    histories = batch_of(model, full_sequences([MAX_EVENTS, 3]))
    expected = full(model, histories)
    for kept in ([], ["a", "b"], ["a", "b"]):
        assert_states(cache.encode(histories, ["a", "b"]), expected)
        assert [one for one in ("a", "b") if one in cache] == kept
    assert (cache.counts.passing, cache.counts.missed, cache.counts.repeated) == (2, 4, 2)
    mixed = batch_of(model, full_sequences([MAX_EVENTS, 2, 3]))  # one is held, one comes newly, one has changed
    assert_states(cache.encode(mixed, ["a", "c", "b"]), full(model, mixed))
    assert "c" not in cache


def test_a_doorkeeper_forgets_who_came_long_ago() -> None:
    door = Doorkeeper(2)
    assert [door.lets_in(one) for one in ("a", "b", "a", "a", "b", "c", "d", "a")] == [
        False, False, True, False, True, False, False, False
    ]  # fmt: skip


def test_who_is_forgotten_is_held_nowhere_and_comes_as_a_stranger() -> None:
    model = make_model()
    policy = InferenceUGT(model)
    sizes = StateCache(policy, CacheLimits(max_bytes=PLENTY))
    hot, cold = sizes._hot.user_bytes, sizes._cold.user_bytes
    share = (cold + 1) / (hot + cold + 2)  # room for one of each
    cache = StateCache(policy, CacheLimits(max_bytes=hot + cold + 2, compressed_share=share, only_returning=True))
    histories = batch_of(model, full_sequences([3]))
    for key in ("ann", "ann", "ben", "ben", "cid"):  # ann is compressed when ben comes, cid has come once
        cache.encode(histories, [key])
    assert ("ann" in cache._cold, "ben" in cache._hot, len(cache)) == (True, True, 2)
    cache.forget(["ann", "ben", "cid", "nobody"])
    assert len(cache) == 0
    for key in ("ann", "cid"):
        cache.encode(histories, [key])
        assert key not in cache, "who comes once is not kept"
    cache.encode(histories, ["ann"])
    assert "ann" in cache


def test_threads_take_turns() -> None:
    model = make_model()
    cache = StateCache(InferenceUGT(model), CacheLimits(max_bytes=PLENTY))
    whole = full_sequences([MAX_EVENTS] * 4)
    wrong: list[str] = []

    def ask(row: int) -> None:
        for events in [*range(1, MAX_EVENTS + 1)] * 5:
            histories = batch_of(model, cut(whole.take(np.array([row])), [events]))
            if not torch.allclose(cache.encode(histories, [f"user {row}"]), full(model, histories), atol=1e-4):
                wrong.append(f"user {row} after {events} events")

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="give the cache more memory"):
        StateCache(InferenceUGT(make_model()), CacheLimits(max_bytes=100))


def test_the_generator_finds_users_again() -> None:
    model = make_model()
    policy = InferenceUGT(model)
    table = SemanticIdTable(make_features().codes.numpy().astype(np.int32), (3, 4, 2))
    cache = StateCache(policy, CacheLimits(max_bytes=PLENTY))
    kept, plain = (Generator(policy, table, DecodingConfig(beam=20), states=one) for one in (cache, None))
    whole = full_sequences([MAX_EVENTS] * 3)
    for events in (1, 2, 5):
        histories = cut(whole, [events] * 3)
        found = kept.recommend(histories, 4, users=["a", None, "c"])
        expected = plain.recommend(histories, 4)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-4)
    assert (cache.counts.missed, cache.counts.advanced) == (2, 4)
    with pytest.raises(RequestError, match="one for each"):
        kept.recommend(whole, 4, users=["a"])
