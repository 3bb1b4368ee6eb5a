"""UGT as a policy for requests."""

from __future__ import annotations

import torch
from torch import Tensor

from asterism.models.histories import HistoryBatch, HistoryLayout
from asterism.models.policy import NativeScorer
from asterism.models.ugt.inference.code_scores import InferenceDecoder
from asterism.models.ugt.inference.encoder import InferenceEncoder
from asterism.models.ugt.inference.item_head import ItemHead
from asterism.models.ugt.inference.linear import Precision
from asterism.models.ugt.model import UGT


class InferenceUGT:
    """Implements `asterism.models.policy.Policy` on a CPU with what a trained UGT has learned.

    The weights are copied when it is made; training the model further does not reach it. Item scores are fp32 in
    every precision, for they decide the order of what is returned.
    """

    def __init__(self, model: UGT, precision: Precision = "fp32") -> None:
        """Raise `ValueError` where the model is in training mode or not on a CPU."""
        if model.training or model.start.device.type != "cpu":
            raise ValueError("an inference form is made of a model on the CPU, in eval mode; call cpu() and eval()")
        self.precision = precision
        self.encoder = InferenceEncoder(model, precision)
        self._model = model
        self._decoder = InferenceDecoder(model.decoder, precision)
        self._item_head = ItemHead(model)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, coarse to fine."""
        return self._model.codebook_sizes

    @property
    def max_events(self) -> int:
        """How many newest events the model reads one by one."""
        return self._model.max_events

    @property
    def layout(self) -> HistoryLayout:
        """What of a history the model reads."""
        return self._model.layout

    @torch.inference_mode()
    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, S) the state after the newest event; of a user without events, the start state."""
        return self.encoder.encode(histories)

    @torch.inference_mode()
    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        """(B, S) states, (B, W, l) prefixes → (B, W, codes of level l) log-probabilities."""
        return self._decoder.log_probs(self._model.code_states(state), prefixes)

    def step_log_probs(self, state: Tensor, prefixes: Tensor, origins: Tensor, codes: Tensor) -> Tensor:
        """See `asterism.models.policy.ScoresSteps`."""
        return self._decoder.step_log_probs(self._model.code_states(state), prefixes, origins, codes)

    def native_scorer(self, state: Tensor) -> NativeScorer | None:
        """See `asterism.models.policy.ScoresNatively`."""
        native = self._decoder.native
        if native is None:
            return None
        return NativeScorer(*native, self._model.code_states(state).float().contiguous())

    @torch.inference_mode()
    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Cosine of state and item over the temperature: (B, N), or (B, C) for candidates (B, C)."""
        return self._model.item_scores(state) if items is None else self._item_head.scores(state, items)
