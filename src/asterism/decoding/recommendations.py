"""What decoding answers with, and the ways to come by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asterism.core.errors import RequestError
from asterism.data.sequences import Sequences
from asterism.decoding.exclusion import ExcludedPairs
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.steps import PerRow

#: generate: a beam, ordered by code log-probability; rescored: a beam, ordered by the fused score;
#: rank: every item, ordered by the item head.
Mode = Literal["generate", "rescored", "rank"]
MODES: Final[tuple[str, ...]] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Items for each row, best first; a row with fewer than k items is filled with -1 and -inf."""

    items: NDArray[np.int64]  # (B, k) dense item index
    scores: NDArray[np.float32]  # (B, k) what the items are ordered by
    code_log_probs: NDArray[np.float32] | None  # (B, k) log p of the items' codes; None in mode rank, or not asked for

    def __len__(self) -> int:
        return len(self.items)


class Recommends(Protocol):
    """What answers requests over one catalogue, whose items may be taken out and come back meanwhile."""

    def recommend(
        self,
        histories: Sequences,
        k: PerRow,
        *,
        excluded: Sequence[ArrayLike] | ExcludedPairs | None = None,
        filters: Sequence[ItemFilter | None] | None = None,
        code_log_probs: bool,
        beam: int | None = None,
        users: Sequence[str | None] | None = None,
        wanted: Callable[[], bool] = ...,
    ) -> Recommendations:
        """See `asterism.decoding.generator.Generator.recommend`."""
        ...

    def set_available(self, item: int, available: bool) -> None:
        """Take an item out, or back in under its last path; raises `UnknownIdError` if it was never there."""
        ...


def check_request(count: int, mode: str) -> None:
    """Raise `RequestError` unless at least one item is asked for, in a known mode."""
    if count < 1:
        raise RequestError(f"{count} recommendations were asked for; ask for at least 1")
    if mode not in MODES:
        raise RequestError(f"{mode!r} is not a mode of decoding; known modes: {', '.join(MODES)}")
