"""The figure that training is steered by: NDCG@10 on validation, through the decoder that will serve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asterism.config import RunConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Cases
from asterism.decoding.generator import Generator
from asterism.decoding.recommendations import Mode
from asterism.evaluation.metrics import ndcg, recall, target_ranks
from asterism.models.trained import TrainedModel, device_of
from asterism.training.loop import Validation

_CUTOFF = 10


def validator(cases: Cases, table: SemanticIdTable, config: RunConfig) -> Callable[[TrainedModel], Validation]:
    """A function that scores a model on (a sample of) the validation cases, the user's history excluded.

    With an item head it ranks all items by it, which is cheap enough for every epoch; without one, and with a
    language model, it generates. The sample is the same in every epoch.
    """
    ranked = config.model.kind == "ugt" and config.training.item_loss_weight > 0
    mode: Mode = "rank" if ranked else "generate"
    asked = sample_cases(cases, config.evaluation.validation_cases, config.seed)

    def validate(model: TrainedModel) -> Validation:
        generator = Generator(model, table, config.decoding, device=device_of(model))
        found = generator.recommend(asked.histories, _CUTOFF, exclude_history=True, mode=mode)
        ranks = target_ranks(found.items, asked.targets)
        return Validation(float(recall(ranks, _CUTOFF).mean()), float(ndcg(ranks, _CUTOFF).mean()))

    return validate


def sample_cases(cases: Cases, count: int | None, seed: int) -> Cases:
    """`count` of the cases, in their order; all where there are no more."""
    if count is None or count >= len(cases):
        return cases
    return cases.take(np.sort(np.random.default_rng(seed).choice(len(cases), count, replace=False)))
