"""The semantic ids that items had before, from a bundle or a folder on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asterism.core import parts, records
from asterism.core.errors import DataError
from asterism.semantic_ids.files import load_semantic_ids
from asterism.semantic_ids.stability import earlier_ids


def load_earlier_ids(folder: Path, item_ids: Sequence[str] | None, items: int, levels: int) -> NDArray[np.int32]:
    """(items, levels) the ids that items have in an earlier bundle or folder, as `earlier_ids` gives them.

    Items are matched by their ids; where neither side names any, by row, new ones coming last. Raises `DataError`
    where only one side names them or none match, and `BundleError` where the folder holds no semantic ids.
    """
    table, _ = load_semantic_ids(folder / parts.SEMANTIC_IDS)
    catalogue = folder / parts.ITEMS
    if item_ids is not None and catalogue.is_file():
        return earlier_ids(table, read_catalogue(catalogue)[records.ITEM_ID].to_pylist(), item_ids, levels)
    if catalogue.is_file():
        raise DataError("the earlier items have ids and the new ones none; give the new catalogue", file=str(catalogue))
    if item_ids is not None:
        raise DataError("the earlier items have no ids; build them with their catalogue", file=str(catalogue))
    if items < len(table):
        reason = f"{items} items cannot be matched by row with {len(table)} earlier ones; give both catalogues"
        raise DataError(reason, file=str(folder))
    rows = [str(row) for row in range(items)]
    return earlier_ids(table, rows[: len(table)], rows, levels)


def read_catalogue(file: Path) -> pa.Table:
    """A catalogue in Parquet; raises `DataError` where it is none, or has no item ids."""
    try:
        found = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"this is not a Parquet file ({error})", file=str(file)) from error
    if records.ITEM_ID not in found.column_names:
        raise DataError("the column is missing", file=str(file), field=records.ITEM_ID)
    return found
