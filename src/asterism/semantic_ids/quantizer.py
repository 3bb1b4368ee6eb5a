"""What every method of making semantic ids gives back: a fitted quantiser that turns vectors into paths of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import DataError


class Quantizer(Protocol):
    """A fitted method: each row's codes depend on that row alone, and equal vectors get equal codes."""

    @property
    def width(self) -> int:
        """D, the width of the vectors that are quantised."""
        ...

    @property
    def levels(self) -> int:
        """Levels of codes, without the de-duplication level."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each of these levels has."""
        ...

    def assign(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
        """(N, levels) codes of (N, D) vectors; raises `DataError` on broken vectors and on another width."""
        ...

    def reconstruct(self, codes: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """(N, D) the vectors that the first levels of (N, ≥ 1) codes stand for; columns beyond `levels` are ignored."""
        ...

    def last_level_distances(
        self, vectors: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """(N, K) how far each code of the last level is, under the codes of the levels above; the least is nearest."""
        ...

    def relabelled(self, names: Sequence[NDArray[np.integer[Any]]]) -> Self:
        """The same quantiser with codes renamed: what had code c of a level has code names[level][c], a permutation."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was fitted, by name, for the disk."""
        ...


def check_vectors(vectors: NDArray[np.floating[Any]], width: int | None = None) -> NDArray[np.float32]:
    """The vectors as contiguous float32; raises `DataError` unless they are (N, D), finite and not empty."""
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(f"item vectors must form a table (items, width), but their shape is {vectors.shape}")
    if width is not None and vectors.shape[1] != width:
        raise DataError(
            f"item vectors have width {vectors.shape[1]}, the codebooks were fitted on width {width}; "
            "embed the items with the embedder of the same bundle"
        )
    if width is None and len(vectors) == 0:
        raise DataError("there are no item vectors to fit codebooks on; give at least one item")
    narrow = np.ascontiguousarray(vectors, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(vectors)} item vectors hold NaN or infinity, the first at row {broken[0]}; "
            "repair or drop these items before codes are assigned"
        )
    return narrow
