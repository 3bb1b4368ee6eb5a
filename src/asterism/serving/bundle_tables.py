"""What the service reads of a bundle: the catalogue, users' earlier events, item vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from asterism.core import parts, records
from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError
from asterism.core.ids import IdMap
from asterism.core.records import Action
from asterism.serving.hot_state import PastEvent
from asterism.stores.catalogue import Item
from asterism.stores.opening import open_vectors
from asterism.stores.user_state import RecentEvent
from asterism.stores.vectors import VectorIndex

VECTORS_TENSOR = "vectors"

_CHUNK_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class CatalogueTable:
    """The items of a bundle in index order, and the SVG texts of those that have one."""

    items: list[Item]
    images: dict[str, str]

    @property
    def ids(self) -> IdMap:
        """Item ids in index order."""
        return IdMap(item.item_id for item in self.items)


def read_catalogue(bundle: Bundle) -> CatalogueTable:
    """The catalogue; raises `BundleError`. An `image` that is not SVG text (a path, say) is left out."""
    items: list[Item] = []
    images: dict[str, str] = {}
    table = _table(bundle, parts.ITEMS, (records.ITEM_ID, records.TITLE))
    if records.CATEGORIES in table.column_names and not _is_list(table.schema.field(records.CATEGORIES).type):
        raise BundleError(f"{bundle.path / parts.ITEMS}: column categories holds no lists; train the bundle again")
    for row in _rows(table):
        item = _item(row)
        items.append(item)
        image = row.get(records.IMAGE)
        if isinstance(image, str) and image.lstrip().startswith("<"):
            images[item.item_id] = image
    try:
        bundle.check_fact(parts.ITEMS, "items", len(IdMap(item.item_id for item in items)))
    except ValueError as error:
        raise BundleError(f"{bundle.path / parts.ITEMS}: {error}") from error
    return CatalogueTable(items, images)


def read_histories(bundle: Bundle) -> list[PastEvent]:
    """Users' earlier events in the order of the file; raises `BundleError`."""
    columns = (records.USER_ID, records.ITEM_ID, records.TIMESTAMP, records.ACTION)
    try:
        return [
            PastEvent(
                row[records.USER_ID],
                RecentEvent(
                    row[records.TIMESTAMP],
                    row[records.ITEM_ID],
                    Action(row[records.ACTION]),
                    row.get(records.VALUE),
                    row.get(records.SCENE),
                    row.get(records.DEVICE),
                ),
            )
            for row in _rows(_table(bundle, parts.HISTORIES, columns))
        ]
    except ValueError as error:
        raise BundleError(f"{bundle.path / parts.HISTORIES}: {error}") from error


def read_vectors(bundle: Bundle, ids: IdMap, url: str = "exact", timeout_seconds: float = 3.0) -> VectorIndex:
    """The item vectors as an index, where `url` says; raises `BundleError`."""
    path = bundle.part(parts.ITEM_VECTORS)
    try:
        vectors = load_file(path)[VECTORS_TENSOR]
    except KeyError:
        raise BundleError(f"{path} holds no tensor `{VECTORS_TENSOR}`") from None
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path}: {error}") from error
    try:
        return open_vectors(url, ids, vectors, timeout_seconds, bundle.version)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


class NeighbourRows:
    """Implements `TakenWith` over the file, of which a row is read when it is asked for: whole, it may be gigabytes."""

    def __init__(self, path: Path, items: int) -> None:
        """Raise `BundleError` where the file is not of `items` items."""
        try:
            whole: Any = safe_open(path, framework="numpy")
            self._offsets = whole.get_tensor("offsets")
            self._neighbours, self._weights = whole.get_slice("neighbours"), whole.get_slice("weights")
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{path} holds no neighbours ({error}); train the bundle again") from error
        if len(self._offsets) != items + 1:
            raise BundleError(f"{path} holds the neighbours of {len(self._offsets) - 1} items, not of {items}")

    def of(self, item: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """See `TakenWith.of`."""
        start, stop = self._offsets[item : item + 2].tolist()
        return self._neighbours[start:stop], self._weights[start:stop]


def read_neighbours(bundle: Bundle, items: int) -> NeighbourRows | None:
    """What users took with each item; None where none were learned. Raises `BundleError`."""
    return NeighbourRows(bundle.part(parts.NEIGHBOURS), items) if bundle.has_part(parts.NEIGHBOURS) else None


def _table(bundle: Bundle, part: str, needed: tuple[str, ...]) -> pa.Table:
    path = bundle.part(part)
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BundleError(f"{path} is no Parquet table ({error})") from error
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise BundleError(f"{path} has no column {', '.join(missing)}")
    holed = [name for name in needed if table.column(name).null_count]
    if holed:
        raise BundleError(f"{path} has nulls in column {', '.join(holed)}")
    return table


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=_CHUNK_ROWS):
        yield from batch.to_pylist()


def _item(row: dict[str, Any]) -> Item:
    price = row.get(records.PRICE)
    available = row.get(records.AVAILABLE)
    return Item(
        item_id=row[records.ITEM_ID],
        title=row[records.TITLE],
        description=row.get(records.DESCRIPTION),
        categories=tuple(one for one in row.get(records.CATEGORIES) or () if one),
        brand=row.get(records.BRAND),
        price=float(price) if price is not None else None,
        kind=row.get(records.KIND) or records.Kind.PRODUCT.value,
        created_at=row.get(records.CREATED_AT),
        available=True if available is None else bool(available),
    )
