"""The course of a UGT: every position of every history is asked for the item that came next."""

from __future__ import annotations

import numpy as np

from asterism.config import TrainingConfig
from asterism.data.preferences import PreferencePairs
from asterism.data.sequences import Sequences
from asterism.models.ugt import UGT
from asterism.models.ugt.jagged import attention_positions
from asterism.training.batches import LengthBucketedBatches, TrainingBatch, make_batch, target_counts, trainable_rows
from asterism.training.course import Course, Size
from asterism.training.objective import NextItemObjective


def next_item_course(
    model: UGT, train: Sequences, config: TrainingConfig, seed: int, pairs: PreferencePairs | None
) -> Course:
    """Histories in batches of like length; raises `TrainingError` where there is nothing to learn from."""
    rows = trainable_rows(train)
    counts = target_counts(train, model.max_events, model.items.count)
    return Course(
        model=model,
        objective=NextItemObjective(model, config, counts),
        batches=LengthBucketedBatches(train.lengths, rows, config.batch_users, seed),
        examples=len(train),
        make_batch=lambda picked: make_batch(train, np.asarray(picked), model.layout, pairs),
        size=_size,
        layers=list(model.blocks),
    )


def _size(batch: TrainingBatch) -> Size:
    return Size(int(batch.histories.mask.sum()), attention_positions(batch.histories.mask))
