"""What evaluation knows of a system under test: histories in, ranked lists out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asterism.data.sequences import Sequences


class Recommender(Protocol):
    """Anything that ranks the whole catalogue for a user."""

    @property
    def name(self) -> str:
        """How tables and reports call it."""
        ...

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> NDArray[np.int64]:
        """(rows, k) dense item indices, best first, each item at most once, padded by -1 at the end of a row.

        With `exclude_history`, no item of a row's history may stand in that row.
        """
        ...
