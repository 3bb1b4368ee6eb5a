"""What the service reads of a bundle, and what it says of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from asterism.core import parts
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.errors import BundleError
from asterism.serving.bundle_tables import read_catalogue, read_histories, read_vectors
from serving.small_market import ITEM_IDS, histories_table, item_vectors, items_table


def bundle_of(path: Path, items: pa.Table, histories: pa.Table, vectors: np.ndarray, tensor: str = "vectors") -> Bundle:
    writer = BundleWriter(path)
    pq.write_table(items, writer.part(parts.ITEMS))
    pq.write_table(histories, writer.part(parts.HISTORIES))
    save_file({tensor: vectors}, writer.part(parts.ITEM_VECTORS))
    return writer.commit({"items": len(ITEM_IDS)})


def test_a_whole_bundle_is_read(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", items_table(), histories_table(), item_vectors())
    table = read_catalogue(bundle)
    assert table.ids.ids == tuple(ITEM_IDS)
    assert "lamps-00" in table.images
    assert "lamps-01" not in table.images, "a path is no SVG text"
    assert len(read_histories(bundle)) == histories_table().num_rows
    assert read_vectors(bundle, table.ids).nearest("mugs-03", 1)[0].item_id.startswith("mugs")


def test_optional_columns_may_be_absent(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", items_table().select(["item_id", "title"]), histories_table(), item_vectors())
    first = read_catalogue(bundle).items[0]
    assert (first.categories, first.price, first.available, first.kind) == ((), None, True, "product")


ITEMS, HISTORIES, VECTORS = items_table(), histories_table(), item_vectors()
BAD_ACTION = HISTORIES.set_column(3, "action", pa.array(["stare"] * HISTORIES.num_rows))
FLAT_CATEGORIES = ITEMS.set_column(2, "categories", pa.array(["lamps"] * ITEMS.num_rows))
NULL_TITLE = ITEMS.set_column(1, "title", pa.array([None] * ITEMS.num_rows, pa.string()))


@pytest.mark.parametrize(
    ("items", "histories", "vectors", "tensor", "reason"),
    [
        (ITEMS.drop_columns(["title"]), HISTORIES, VECTORS, "vectors", "no column title"),
        (NULL_TITLE, HISTORIES, VECTORS, "vectors", "nulls in column title"),
        (FLAT_CATEGORIES, HISTORIES, VECTORS, "vectors", "column categories holds no lists"),
        (ITEMS.slice(1), HISTORIES, VECTORS, "vectors", "its items is 59, the manifest says 60"),
        (pa.concat_tables([ITEMS, ITEMS]), HISTORIES, VECTORS, "vectors", "'lamps-00' appears twice"),
        (ITEMS, BAD_ACTION, VECTORS, "vectors", "'stare' is not a valid Action"),
        (ITEMS, HISTORIES, VECTORS[1:], "vectors", "do not fit 60 items"),
        (ITEMS, HISTORIES, VECTORS * np.nan, "vectors", "not finite"),
        (ITEMS, HISTORIES, VECTORS, "other", "no tensor `vectors`"),
    ],
)
def test_a_wrong_part_is_named(
    tmp_path: Path, items: pa.Table, histories: pa.Table, vectors: np.ndarray, tensor: str, reason: str
) -> None:
    bundle = bundle_of(tmp_path / "b", items, histories, vectors, tensor)

    def read_all() -> None:
        read_vectors(bundle, read_catalogue(bundle).ids)
        read_histories(bundle)

    with pytest.raises(BundleError, match=reason):
        read_all()
