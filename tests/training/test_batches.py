"""Batches: every prefix an example, an order that depends on seed and epoch alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.data.sequences import Sequences
from asterism.training.batches import LengthBucketedBatches, make_batch, trainable_rows


def sequences(*rows: list[int]) -> Sequences:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Sequences(np.cumsum([0, *map(len, rows)]), items, np.arange(len(items)), np.ones(len(items), dtype=np.int8))


def test_each_position_is_asked_for_the_next_event() -> None:
    batch = make_batch(sequences([1, 2, 3], [4, 5], [9]), np.array([0, 1]), 50)
    assert batch.histories.items.tolist() == [[1, 2], [-1, 4]]
    assert batch.targets.tolist() == [[2, 3], [-1, 5]]


def test_a_long_row_keeps_its_newest_pairs() -> None:
    batch = make_batch(sequences([1, 2, 3, 4, 5]), np.array([0]), 2)
    assert batch.histories.items.tolist() == [[3, 4]]
    assert batch.targets.tolist() == [[4, 5]]


def test_rows_with_one_event_teach_nothing() -> None:
    assert trainable_rows(sequences([1], [2, 3], [])).tolist() == [1]


@settings(max_examples=30)
@given(rows=st.integers(1, 200), batch_rows=st.integers(1, 17), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_row_once(rows: int, batch_rows: int, seed: int, epoch: int) -> None:
    lengths = np.arange(rows) % 7
    batches = LengthBucketedBatches(lengths, np.arange(rows), batch_rows, seed)
    batches.epoch = epoch
    seen = list(batches)
    assert len(seen) == len(batches)
    assert sorted(row for batch in seen for row in batch) == list(range(rows))
    assert seen == list(batches), "the same seed and epoch give the same order"


def test_epochs_differ_and_batches_are_alike_in_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 50, size=640)
    batches = LengthBucketedBatches(lengths, np.arange(640), 32, seed=0)
    first = list(batches)
    batches.epoch = 1
    assert first != list(batches)
    positions = sum(int(lengths[batch].max()) * len(batch) for batch in first)
    assert lengths.sum() / positions > 0.9, "sorted batches waste less than a tenth"
    assert lengths.sum() / (lengths.max() * len(lengths)) == pytest.approx(0.5, abs=0.05), "unsorted ones waste half"
