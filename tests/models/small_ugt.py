"""A small UGT, and histories that fill every column it may read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from asterism.config import ModelConfig
from asterism.data.sequences import Asked, Sequences
from asterism.models.policy import HistoryBatch
from asterism.models.ugt import UGT, ItemFeatures, UGTShape

ITEMS = 12
MAX_EVENTS = 5
EVERYTHING: dict[str, object] = {
    "actions": True,
    "values": True,
    "time_gaps": True,
    "contexts": True,
    "asked": True,
    "user_attributes": True,
    "group_norm": True,
    "experts": 4,
    "expert_top_k": 2,
    "summaries": 3,
    "max_history": 20,
}


def make_features() -> ItemFeatures:
    codes = torch.tensor([[item // 4, item % 4, 0] for item in range(ITEMS)])
    return ItemFeatures(codes, (3, 4, 2), torch.arange(60.0).view(ITEMS, 5).sin())


def make_model(**changes: object) -> UGT:
    """A model whose parameters all differ from what they start as, so that each of them shows."""
    torch.manual_seed(0)
    config = ModelConfig(width=8, blocks=2, heads=2, max_events=MAX_EVENTS, dropout=0.0).model_copy(update=changes)
    model = UGT(make_features(), UGTShape(config, temperature=0.1)).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.3)
    return model


def full_sequences(lengths: Sequence[int], seed: int = 0) -> Sequences:
    """Random rows of so many events, with every column."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events, rows = int(offsets[-1]), len(lengths)
    values = np.where(random.random(events) < 0.5, np.nan, random.integers(-5, 500, events))
    starts = np.concatenate([np.sort(random.integers(0, 10**6, length)) for length in lengths] or [np.empty(0)])
    ends = np.array([starts[stop - 1] if stop > start else 0 for start, stop in pairwise(offsets)])
    return Sequences(
        offsets,
        random.integers(0, ITEMS, events).astype(np.int32),
        starts.astype(np.int64),
        random.integers(0, 10, events).astype(np.int8),
        values.astype(np.float32),
        random.integers(0, 9, events).astype(np.uint16),
        random.integers(0, 9, events).astype(np.uint16),
        random.integers(0, 9, (rows, 2)).astype(np.int32),
        Asked(
            (ends + random.integers(0, 10**5, rows)).astype(np.int64),
            random.integers(0, 9, rows).astype(np.uint16),
            random.integers(0, 9, rows).astype(np.uint16),
        ),
    )


def batch_of(model: UGT, sequences: Sequences) -> HistoryBatch:
    return HistoryBatch.from_sequences(sequences, model.layout)


def event_vector(model: UGT, items: Tensor) -> Tensor:
    """(...,) items → (..., D) what an event of them enters as, before anything of the event is added."""
    vectors: Tensor = model.items(items)
    return vectors if model.seen is None else vectors + model.seen(items)
