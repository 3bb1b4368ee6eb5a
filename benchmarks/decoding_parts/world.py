"""A model of random weights, a catalogue and users: what they hold costs nothing, so it need not be learned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import ModelConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.beam import Generated, beam_search
from asterism.decoding.trie import Trie
from asterism.models.policy import HistoryBatch, Policy
from asterism.models.ugt import UGT, ItemFeatures, UGTShape

CODES = 256
LEVELS = 3
SIZES = (CODES,) * LEVELS
CONTENT = 64
TEMPERATURE = 0.07


class Shape(NamedTuple):
    """What decides the cost of a request."""

    width: int = 128
    blocks: int = 4
    heads: int = 2
    events: int = 50  # of a history
    beam: int = 20
    items: int = 20_000
    seed: int = 0
    summaries: int = 0  # windows that events beyond `newest` are read in; 0 where each event is a token
    newest: int = 50

    def config(self) -> ModelConfig:
        """The model that reads such histories whole."""
        windows = {"summaries": self.summaries, "max_history": self.events} if self.summaries else {}
        newest = self.newest if self.summaries else self.events
        return ModelConfig(width=self.width, blocks=self.blocks, heads=self.heads, max_events=newest, **windows)


class World:
    """A UGT, a trie and histories."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._random = np.random.default_rng(shape.seed)
        torch.manual_seed(shape.seed)
        self.codes = distinct_codes(shape.items, self._random)
        features = ItemFeatures(torch.from_numpy(self.codes).long(), SIZES, torch.randn(shape.items, CONTENT))
        self.model = UGT(features, UGTShape(shape.config(), temperature=TEMPERATURE)).eval()
        with torch.no_grad():
            for one in self.model.parameters():
                one.add_(torch.randn_like(one) * 0.02)
        self.view = Trie.from_table(SemanticIdTable(self.codes, SIZES)).snapshot()

    def histories(self, users: int, extra: int = 0) -> HistoryBatch:
        """As many events as the model reads of each user, and `extra` more."""
        shape = (users, self.shape.events + extra)
        items = self._random.integers(0, self.shape.items, shape, dtype=np.int32)
        gaps = np.exp(self._random.uniform(0, np.log(10**6), shape)).astype(np.int64)
        offsets = np.arange(users + 1) * shape[1]
        events = Sequences(offsets, items.ravel(), (10**9 + gaps.cumsum(axis=1)).ravel(), np.zeros(items.size, np.int8))
        return HistoryBatch.from_sequences(events, self.model.layout if self.shape.summaries else shape[1])

    def search(self, policy: Policy, states: torch.Tensor) -> Generated:
        """The constrained beam, all levels."""
        return beam_search(policy, states, self.view, self.shape.beam, self.shape.beam)


def distinct_codes(items: int, random: np.random.Generator) -> NDArray[np.int32]:
    """(items, levels) uniform codes, no two alike."""
    keys = random.choice(CODES**LEVELS, items, replace=False)
    return np.stack([keys // CODES**2, keys // CODES % CODES, keys % CODES], axis=1).astype(np.int32)
