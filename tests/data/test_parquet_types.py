"""Parquet files hold more types than a table of the contract: each is kept as plain values, or left out with a note."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asterism.core.errors import DataError
from asterism.data.dataset import Dataset
from asterism.data.fingerprinting import dataset_fingerprint
from asterism.data.importing import Imported
from asterism.data.locating import load_dataset
from asterism.data.readers.parquet_files import read_parquet

Importer = Callable[..., Imported]

PICTURE = b"\x89PNG\xff"
UUIDS = [uuid.UUID(int=5), None, uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")]


@pytest.fixture
def events(write: Callable[[str, str], Path]) -> Path:
    return write("events.csv", "user_id,item_id,timestamp\nu,1,1\nu,2,2\n")


def catalogue(tmp_path: Path, extra: pa.Array) -> Path:
    file = tmp_path / "items.parquet"
    rows = len(extra)
    ids = [str(row + 1) for row in range(rows)]
    pq.write_table(pa.table({"item_id": ids, "title": ["a"] * rows, "extra": extra}), file)
    return file


@pytest.mark.parametrize(
    "extra",
    [
        pa.array([PICTURE, None], pa.binary()),
        pa.array([b"text", PICTURE], pa.large_binary()),
        pa.array([b"\xff" * 16, b"\xfe" * 16], pa.binary(16)),
        pa.array([PICTURE, PICTURE], pa.binary_view()),
        pa.array([[PICTURE], None], pa.list_(pa.binary())),
        pa.array([{"small": PICTURE}, None], pa.struct([("small", pa.binary())])),
    ],
    ids=lambda array: str(array.type),
)
def test_bytes_are_left_out_and_said(events: Path, tmp_path: Path, stop: Importer, extra: pa.Array) -> None:
    file = catalogue(tmp_path, extra)
    imported = stop(events, file)
    assert imported.dataset.items.column_names == ["item_id", "title"]
    assert imported.summary.tables["items"].ignored_columns == ["extra"]
    assert imported.summary.notes == [f"{file}: the column `extra` holds bytes that are no text and was left out"]


@pytest.mark.parametrize(
    ("extra", "kept"),
    [
        (pa.array(["x", None], pa.string_view()), ["x", None]),
        (pa.array([["x"], None], pa.list_(pa.string_view())), [["x"], None]),
        (pa.array([b"x", None], pa.large_binary()), ["x", None]),
        (pa.array([b"xy", None], pa.binary(2)), ["xy", None]),
        (pa.array([b"xy", None], pa.binary_view()), ["xy", None]),
        (pa.array([str(one) if one else None for one in UUIDS]), [str(one) if one else None for one in UUIDS]),
        (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one and one.bytes for one in UUIDS], pa.binary(16))),
            [str(one) if one else None for one in UUIDS],
        ),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["[1]", None])), ["[1]", None]),
        (pa.array([{"a": "x"}, None], pa.struct([("a", pa.string_view())])), ['{"a": "x"}', None]),
        (pa.array([1, None], pa.duration("s")), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_other_types_are_kept_as_plain_values(
    events: Path, tmp_path: Path, reject: Importer, extra: pa.Array, kept: list[object] | None
) -> None:
    file = catalogue(tmp_path, extra)
    bad = pa.table({"item_id": [""], "title": ["b"], "extra": extra.slice(0, 1)}).cast(read_schema(file))
    pq.write_table(pa.concat_tables([pq.read_table(file), bad]), file)
    imported, rejected = reject(events, file)  # type: ignore[misc]
    assert len(rejected) == 1
    assert imported.dataset.items["extra"].to_pylist() == (extra.to_pylist() if kept is None else kept)
    imported.dataset.save(tmp_path / "saved")
    assert dataset_fingerprint(load_dataset(tmp_path / "saved")) == dataset_fingerprint(imported.dataset)


def read_schema(file: Path) -> pa.Schema:
    return pq.read_table(file).schema


def test_uuids_are_ids_in_their_usual_form(tmp_path: Path, stop: Importer) -> None:
    users = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes for one in UUIDS if one], pa.binary(16)))
    pq.write_table(pa.table({"user_id": users, "item_id": ["a", "b"], "timestamp": [1, 2]}), tmp_path / "e.parquet")
    ids = stop(tmp_path / "e.parquet").dataset.interactions["user_id"].to_pylist()
    assert ids == [str(one) for one in UUIDS if one]


def test_a_slice_of_uuids_is_read_from_its_offset(tmp_path: Path) -> None:
    many = [uuid.UUID(int=one**9) for one in range(300)]
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes for one in many], pa.binary(16)))
    pq.write_table(pa.table({"id": column}), tmp_path / "e.parquet", row_group_size=70)
    assert read_parquet(tmp_path / "e.parquet").table["id"].to_pylist() == [str(one) for one in many]


def test_an_id_of_bytes_names_its_rows(tmp_path: Path, stop: Importer) -> None:
    table = pa.table({"user_id": pa.array([b"\xff", b"b"]), "item_id": ["a", "b"], "timestamp": [1, 2]})
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(DataError, match="not UTF-8") as caught:
        stop(tmp_path / "e.parquet")
    assert (caught.value.line, caught.value.field) == (1, "user_id")


def test_bytes_have_a_fingerprint_whatever_their_type() -> None:
    cells = [PICTURE, None, b"\xff\xff\xff\xff\xff"]
    log = pa.table({"user_id": ["u"], "item_id": ["0"], "timestamp": [1]})
    prints = {
        dataset_fingerprint(Dataset(log, pa.table({"item_id": ["0", "1", "2"], "thumb": pa.array(values, kind)})))
        for kind in (pa.binary(), pa.binary(5))
        for values in (cells, cells[::-1])
    }
    assert len(prints) == 4
