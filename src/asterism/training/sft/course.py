"""The course of a language model: all examples of the wanted tasks, shuffled together."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from asterism.data.sequences import Sequences
from asterism.models.llm import LLM
from asterism.models.llm.backbone import layers_of
from asterism.training.course import Course, Size
from asterism.training.sft.batches import TokenBatches
from asterism.training.sft.objective import SupervisedObjective
from asterism.training.sft.packing import PackedBatch, pack
from asterism.training.sft.phrases import Phrases
from asterism.training.sft.tasks import make_examples

#: Attention costs the square of a row, padding the rest of it.
_ROW_TOKENS: Final = 256


def supervised_course(model: LLM, items: pa.Table, train: Sequences, seed: int) -> Course:
    """Every example once an epoch; raises `TrainingError` where the wanted tasks have none.

    `items` are the catalogue in the order of the item indices.
    """
    config = model.config
    examples = make_examples(Phrases(model, items), train, config.tasks, config.every_event_is_an_answer)
    return Course(
        model=model,
        objective=SupervisedObjective(model),
        batches=TokenBatches(np.array([len(one) for one in examples]), config.batch_tokens, seed),
        examples=len(examples),
        make_batch=lambda picked: pack([examples[one] for one in picked], _ROW_TOKENS),
        size=_size,
        layers=layers_of(model.language),
    )


def _size(batch: PackedBatch) -> Size:
    return Size(int((batch.examples >= 0).sum()), batch.examples.numel())
