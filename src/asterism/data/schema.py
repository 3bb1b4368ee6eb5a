"""The data contract as Arrow schemas: which columns a table has, which it must have, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from asterism.core import records


class TableName(StrEnum):
    """The three tables of a data set."""

    INTERACTIONS = "interactions"
    ITEMS = "items"
    USERS = "users"


@dataclass(frozen=True, slots=True)
class Contract:
    """What one table looks like once it was checked."""

    name: TableName
    schema: pa.Schema  # every column that has a meaning; a table may lack those neither required nor filled
    required: tuple[str, ...]  # columns that a file must have
    key: str | None  # the column whose values must differ, where there is one
    keeps_extra_columns: bool


INTERACTIONS = Contract(
    TableName.INTERACTIONS,
    pa.schema(
        [
            (records.USER_ID, pa.string()),
            (records.ITEM_ID, pa.string()),
            (records.TIMESTAMP, pa.int64()),  # Unix seconds
            (records.NANOSECONDS, pa.int32()),  # below a second; only where a file tells them
            (records.ACTION, pa.string()),
            (records.VALUE, pa.float64()),
            (records.SESSION_ID, pa.string()),
            (records.SCENE, pa.string()),
            (records.DEVICE, pa.string()),
            (records.LOCATION, pa.string()),
            (records.SPLIT, pa.string()),
        ]
    ),
    required=(records.USER_ID, records.ITEM_ID, records.TIMESTAMP),
    key=None,
    keeps_extra_columns=False,
)

ITEMS = Contract(
    TableName.ITEMS,
    pa.schema(
        [
            (records.ITEM_ID, pa.string()),
            (records.TITLE, pa.string()),
            (records.DESCRIPTION, pa.string()),
            (records.CATEGORIES, pa.list_(pa.string())),
            (records.BRAND, pa.string()),
            (records.PRICE, pa.float64()),
            (records.KIND, pa.string()),
            (records.CREATED_AT, pa.int64()),  # Unix seconds
            (records.IMAGE, pa.string()),
            (records.AVAILABLE, pa.bool_()),
        ]
    ),
    required=(records.ITEM_ID, records.TITLE),
    key=records.ITEM_ID,
    keeps_extra_columns=True,
)

USERS = Contract(
    TableName.USERS,
    pa.schema([(records.USER_ID, pa.string())]),
    required=(records.USER_ID,),
    key=records.USER_ID,
    keeps_extra_columns=True,
)

CONTRACTS = {contract.name: contract for contract in (INTERACTIONS, ITEMS, USERS)}

EMBEDDING_TYPE = pa.list_(pa.float32())


def items_known_by_id_only(ids: pa.Array) -> pa.Table:
    """An items table that knows nothing but ids."""
    titles = pa.nulls(len(ids), pa.string())
    return pa.table({records.ITEM_ID: ids.cast(pa.string()), records.TITLE: titles})
