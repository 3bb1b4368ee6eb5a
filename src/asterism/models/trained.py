"""The models that can be trained, kept in a bundle and served."""

from __future__ import annotations

import torch

from asterism.models.llm import LLM
from asterism.models.ugt import UGT

TrainedModel = UGT | LLM


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device
