"""What every peer gets, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.data.split import Split

CUTOFF = 10
WIDTH = 64
MAX_EVENTS = 50

Lists = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """What a peer gets: the split, and how long and from which seed it may learn."""

    split: Split
    minutes: float
    seed: int
    threads: int

    @property
    def dense(self) -> bool:
        """Whether an average history fills the window, as MovieLens' do and those of shops do not."""
        return self.split.train.events >= MAX_EVENTS * len(self.split.train)
