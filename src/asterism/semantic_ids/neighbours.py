"""Whether items that are near each other stay near each other once they are codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SAMPLED_ITEMS = 1000
_NEIGHBOURS = 10
_CHUNK_ROWS = 256


def neighbour_overlap(vectors: NDArray[np.floating[Any]], rebuilt: NDArray[np.floating[Any]]) -> float | None:
    """Mean share of an item's 10 nearest others that are among its 10 nearest when all items are rebuilt from codes.

    Over 1,000 items that are evenly spaced in the catalogue; None for fewer than two items.
    """
    count = min(_NEIGHBOURS, len(vectors) - 1)
    if count < 1:
        return None
    queries = np.unique(np.linspace(0, len(vectors) - 1, min(_SAMPLED_ITEMS, len(vectors))).astype(np.int64))
    spaces = [torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in (vectors, rebuilt)]
    shared = 0
    for part in np.array_split(queries, max(1, len(queries) // _CHUNK_ROWS)):
        true, coded = (_nearest_others(space, torch.from_numpy(part), count).tolist() for space in spaces)
        shared += sum(len(set(one) & set(other)) for one, other in zip(true, coded, strict=True))
    return shared / (len(queries) * count)


def _nearest_others(space: Tensor, queries: Tensor, count: int) -> Tensor:
    distances = torch.cdist(space[queries], space)
    distances[torch.arange(len(queries)), queries] = torch.inf
    return distances.topk(count, largest=False).indices
