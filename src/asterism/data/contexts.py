"""What else an event may tell: how strong it was, in which scene and on which device it happened."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core import records
from asterism.core.hashing import label_code
from asterism.data.repeats import codes_of

#: Codes of scenes and devices; with zero for none they fill two bytes.
CONTEXT_CODES: Final = (1 << 16) - 1


@lru_cache(maxsize=CONTEXT_CODES)
def context_code(label: str | None) -> int:
    """The code of a scene or a device, the same wherever it is computed; 0 for none."""
    return 0 if label is None or label == "" else label_code(label, CONTEXT_CODES)


def context_codes(interactions: pa.Table, name: str) -> NDArray[np.uint16] | None:
    """(rows,) codes of a column, None where the table has no such column or nothing in it."""
    column = _filled(interactions, name)
    if column is None:
        return None
    codes, labels = codes_of(column.fill_null(""))
    return np.array([context_code(label) for label in labels.to_pylist()], dtype=np.uint16)[codes]


def event_values(interactions: pa.Table) -> NDArray[np.float32] | None:
    """(rows,) values, NaN where an event has none; None where no event has one."""
    column = _filled(interactions, records.VALUE)
    if column is None:
        return None
    values: NDArray[np.float32] = column.cast(pa.float32(), safe=False).fill_null(np.nan).to_numpy()
    return values


def _filled(interactions: pa.Table, name: str) -> pa.ChunkedArray | None:
    if name not in interactions.column_names or interactions[name].null_count == interactions.num_rows:
        return None
    return interactions[name]
