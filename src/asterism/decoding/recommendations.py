"""What decoding answers with, and the ways to come by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import RequestError

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


def check_request(count: int, mode: str) -> None:
    """Raise `RequestError` unless at least one item is asked for, in a known mode."""
    if count < 1:
        raise RequestError(f"{count} recommendations were asked for; ask for at least 1")
    if mode not in MODES:
        raise RequestError(f"{mode!r} is not a mode of decoding; known modes: {', '.join(MODES)}")
