"""Batches of histories: which columns are carried, and where they stand."""

from __future__ import annotations

import numpy as np
import torch

from asterism.data.sequences import Sequences
from asterism.models.policy import HistoryBatch, HistoryLayout, read_histories
from models.small_ugt import full_sequences, make_model


def test_columns_stand_where_their_events_do() -> None:
    sequences = full_sequences([1, 3])
    batch = HistoryBatch.from_sequences(sequences, HistoryLayout(2, contexts=True))
    assert batch.values is not None
    assert batch.scenes is not None
    assert batch.devices is not None
    assert sequences.values is not None
    assert sequences.scenes is not None
    assert sequences.devices is not None
    np.testing.assert_array_equal(batch.values[1].numpy(), sequences.values[2:4])
    assert torch.isnan(batch.values[0, 0])
    assert batch.scenes.tolist() == [[0, sequences.scenes[0]], sequences.scenes[2:4].tolist()]
    assert batch.devices.tolist() == [[0, sequences.devices[0]], sequences.devices[2:4].tolist()]
    assert batch.attributes is not None
    assert sequences.attributes is not None
    assert batch.attributes.tolist() == sequences.attributes.tolist()
    assert batch.older is None


def test_a_model_that_reads_no_contexts_is_given_none() -> None:
    batch = HistoryBatch.from_sequences(full_sequences([1, 3]), 2)
    assert (batch.values, batch.scenes, batch.attributes, batch.asked, batch.older) == (None,) * 5
    bare = Sequences(np.array([0, 1]), np.zeros(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.int8))
    absent = HistoryBatch.from_sequences(bare, HistoryLayout(2, contexts=True))
    assert (absent.values, absent.scenes, absent.attributes, absent.asked) == (None,) * 4


def test_the_event_left_out_becomes_what_is_asked() -> None:
    sequences = full_sequences([3, 3])
    batch = HistoryBatch.from_sequences(sequences, HistoryLayout(3, contexts=True))
    inputs = batch.without_newest()
    assert inputs.asked is not None
    assert batch.scenes is not None
    assert inputs.asked.scenes is not None
    assert inputs.items.tolist() == batch.items[:, :2].tolist()
    assert inputs.asked.timestamps.tolist() == batch.timestamps[:, 2].tolist()
    assert inputs.asked.scenes.tolist() == batch.scenes[:, 2].tolist()


def test_a_batch_moves_whole() -> None:
    layout = HistoryLayout(3, contexts=True, summaries=2, max_history=9)
    moved = HistoryBatch.from_sequences(full_sequences([9, 1]), layout).to("meta")
    columns = [moved.items, moved.timestamps, moved.actions, moved.values, moved.scenes, moved.devices]
    assert moved.asked is not None
    assert moved.older is not None
    columns += [moved.attributes, moved.asked.timestamps, moved.asked.scenes, moved.asked.devices]
    columns += [moved.older.items, moved.older.counts, moved.older.timestamps]
    assert [one.device.type for one in columns if one is not None] == ["meta"] * 13


def test_a_policy_reads_by_its_layout() -> None:
    sequences = full_sequences([18])
    batch = read_histories(make_model(summaries=3, max_history=20, values=True), sequences)
    assert batch.values is not None
    assert batch.older is not None
    assert len(batch.older.items) == 13
    plain = read_histories(make_model(), sequences)
    assert (plain.values, plain.older) == (None, None)
    assert plain.items.shape == (1, 5)
