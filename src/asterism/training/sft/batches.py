"""An epoch as batches of about equally many tokens; every example once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from asterism.training.course import EpochBatches


class TokenBatches(EpochBatches):
    """Numbers of examples in a new order each epoch, cut where the tokens of a batch are full.

    The order depends on the seed and the epoch alone; every epoch has the same number of batches.
    """

    def __init__(self, lengths: NDArray[np.integer], batch_tokens: int, seed: int) -> None:
        self._lengths = lengths
        self._seed = seed
        self._count = max(1, min(len(lengths), -(-int(lengths.sum()) // batch_tokens)))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self._seed, self.epoch]).permutation(len(self._lengths))
        ends = np.cumsum(self._lengths[order])
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, self._count) / self._count) + 1
        bounds = np.concatenate([[0], self._spread(cuts), [len(order)]])
        for start, stop in itertools.pairwise(bounds):
            yield order[start:stop].tolist()

    def _spread(self, cuts: NDArray[np.integer]) -> NDArray[np.integer]:
        """Cuts that leave no batch empty, also where one example is longer than a batch."""
        places = np.arange(1, self._count)
        rising = np.maximum.accumulate(cuts - places) + places
        return np.minimum(rising, len(self._lengths) - self._count + places)
