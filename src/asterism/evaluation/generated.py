"""A trained generator under the protocol: the same decoder that serves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.data.sequences import Sequences
from asterism.decoding import Generator, Mode


@dataclass(frozen=True, slots=True)
class GeneratedRecommender:
    """Implements `asterism.evaluation.recommender.Recommender`."""

    name: str
    generator: Generator
    mode: Mode

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> NDArray[np.int64]:
        """(rows, k) dense item indices, best first, padded by -1."""
        found = self.generator.recommend(histories, k, exclude_history=exclude_history, mode=self.mode)
        return found.items
