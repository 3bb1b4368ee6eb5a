"""How many items keep their semantic id when it is made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.core.semantic_id import SemanticIdTable

UNKNOWN = -1  # in every column of the earlier id of an item that had none


@dataclass(frozen=True, slots=True)
class CodeChanges:
    """Shares of the items that had an id before; all 0 where there is no such item."""

    items: int
    first: float  # whose first code is another one
    first_two: float  # whose first code or second code is
    any: float  # whose id is not what it was, the de-duplication code included

    def __str__(self) -> str:
        return (
            f"{self.first:.2%} of {self.items:,} items have another first code, "
            f"{self.first_two:.2%} other first two codes, {self.any:.2%} another semantic id"
        )


def code_changes(earlier: NDArray[np.int32], codes: NDArray[np.int32]) -> CodeChanges:
    """Compare (N, levels) earlier ids, as `earlier_ids` gives them, with the (N, levels) ids of now.

    Without their last columns both tell of fitted codes alone.
    """
    known = earlier[:, 0] != UNKNOWN
    differs = np.logical_or.accumulate(earlier[known] != codes[known], axis=1)
    count = int(known.sum())
    shares = differs.mean(axis=0) if count else np.zeros(codes.shape[1])
    return CodeChanges(count, float(shares[0]), float(shares[:2][-1]), float(shares[-1]))


def earlier_ids(table: SemanticIdTable, had: Sequence[str], items: Sequence[str], levels: int) -> NDArray[np.int32]:
    """(N, levels) the ids that `items` have in an earlier table whose rows belong to `had`; `UNKNOWN` for new items.

    Raises `DataError` where the table has other items, another number of levels, or none of the items.
    """
    if len(had) != len(table):
        raise DataError(f"{len(had)} item ids do not belong to an earlier table of {len(table)} items")
    if table.levels != levels:
        raise DataError(
            f"the earlier semantic ids have {table.levels} levels and the new ones {levels}; "
            "make them alike, or build without the earlier ones"
        )
    row_of = {item: row for row, item in enumerate(had)}
    rows = np.array([row_of.get(item, UNKNOWN) for item in items], dtype=np.int64)
    if (rows == UNKNOWN).all():
        raise DataError("none of the items has an earlier semantic id; are these the ids of another catalogue?")
    return np.where((rows == UNKNOWN)[:, None], np.int32(UNKNOWN), table.codes[rows])
