"""Item vectors of a served bundle: compared in this process, and their neighbours found in an index elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import StorageError
from asterism.stores.vectors import Neighbour, VectorIndex

logger = logging.getLogger(__name__)


class VectorsBeside:
    """Implements `VectorIndex`: `similarities` never leave the process; `nearest` does where the index answers.

    Until `fill` is done, and while the index is down, neighbours are exact and come from this process too.
    """

    def __init__(self, here: VectorIndex, index: VectorIndex, fill: Callable[[], None]) -> None:
        self._here = here
        self._index = index
        self._fill = fill
        self._is_used = False

    def fill(self) -> None:
        """Write what the index does not hold yet; where it is down, this process goes on alone."""
        try:
            self._fill()
            self._is_used = True
        except StorageError as error:
            logger.warning("similar items are found in this process alone: %s", error)

    def nearest(self, item_id: str, count: int, exclude: Collection[str] = ()) -> list[Neighbour]:
        """See `VectorIndex.nearest`; for a thread, not for an event loop."""
        if self._is_used:
            try:
                return self._index.nearest(item_id, count, exclude)
            except StorageError as error:
                logger.warning("similar items are found in this process: %s", error)
        return self._here.nearest(item_id, count, exclude)

    def similarities(self, item_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        """See `VectorIndex.similarities`."""
        return self._here.similarities(item_ids, others)

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """See `VectorIndex.put`; in this process first, so that a new item is known here whatever the index says."""
        self._here.put(item_ids, vectors)
        if self._is_used:
            self._index.put(item_ids, vectors)

    def __len__(self) -> int:
        return len(self._here)

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()
