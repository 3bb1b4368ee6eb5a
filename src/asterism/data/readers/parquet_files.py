"""Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from asterism.core.errors import DataError
from asterism.data.raw import RawTable, rows_as_lines


def read_parquet(file: Path) -> RawTable:
    """Read a Parquet file; its lines are its rows, counted from one; raises `DataError` where it is none."""
    if not file.stat().st_size:
        raise DataError("the file is empty", file=str(file))
    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"this is not a Parquet file that can be read ({error}); write it again", file=str(file)) from (
            error
        )
    return RawTable(str(file), table.replace_schema_metadata(None), rows_as_lines)
