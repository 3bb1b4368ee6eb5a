"""Semantic ids made elsewhere are read, completed and written back as they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError
from asterism.semantic_ids import SemanticIdRegister, adopt, build_semantic_ids, parse_paths, read_index, write_index

ITEMS = Path(os.environ.get("ASTERISM_DATA", "data")) / "minionerec-industrial" / "items.parquet"


def test_an_index_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.index.json"
    path.write_text('{"1": ["<a_5>", "<b_0>"], "0": ["<a_236>", "<b_231>"], "2": ["<a_5>", "<b_0>"]}')
    found = read_index(path)
    assert found.item_ids == ["0", "1", "2"]
    assert found.paths.tolist() == [[236, 231], [5, 0], [5, 0]]
    path.write_text('{"B07": ["<a_1>"], "A01": ["<a_2>"]}')
    assert read_index(path).item_ids == ["B07", "A01"]


def test_what_is_written_is_read_and_adopted_as_it_was(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 4)).round(0)
    table, _ = build_semantic_ids(vectors, SemanticIdConfig(levels=3, codes=4), seed=0)
    item_ids = [f'ü"{item}' for item in range(30)]
    write_index(tmp_path / "x.index.json", item_ids, table)
    found = read_index(tmp_path / "x.index.json")
    assert found.item_ids == item_ids
    assert_array_equal(found.paths, table.codes)
    assert_array_equal(adopt(found.paths, vectors)[0].codes, table.codes)


def test_shared_paths_get_a_last_code_and_centroids_are_means_by_hand() -> None:
    paths = np.array([[0, 2], [0, 2], [3, 1]], dtype=np.int32)
    table, codebooks = adopt(paths, np.array([[1.0], [3.0], [10.0]]))
    assert table.codes.tolist() == [[0, 2, 0], [0, 2, 1], [3, 1, 0]]
    assert table.codebook_sizes == (4, 4, 4)
    assert_allclose(codebooks.centroids[0][[0, 3], 0], [2.0, 10.0])
    assert_allclose(codebooks.reconstruct(table.codes)[:, 0], [2.0, 2.0, 10.0])
    assert codebooks.assign(np.array([[2.2], [0.0], [11.0]]))[:, 0].tolist() == [0, 0, 3]  # never the unused codes
    assert SemanticIdRegister(table, codebooks).assign(np.array([[2.0]])).shape == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "not one object of items"),
        ("{}", "not one object of items"),
        ('{"7": "<a_1>"}', "item '7' has no list of tokens"),
        ('{"7": ["<b_1>"]}', "item '7': '<b_1>' is not a semantic id"),
        ('{"7": []}', "item '7': '' is not a semantic id"),
        ('{"7": ["<a_-1>"]}', "is not a semantic id"),
        ('{"7": ["<a_99999999999>"]}', "has the code 99999999999; none may exceed 65535"),
        ('{"7": ["<a_1>"], "8": ["<a_1>", "<b_1>"]}', "item '8' has 2 codes, the items before it have 1"),
    ],
)
def test_a_broken_index_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.index.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_index(path)
    assert "x.index.json" in str(caught.value)


def test_a_missing_index_and_foreign_vectors_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_index(tmp_path / "absent.json")
    with pytest.raises(DataError, match="2 vectors do not belong to 3 items"):
        adopt(np.zeros((3, 2), dtype=np.int32), np.zeros((2, 4)))
    with pytest.raises(DataError, match="1 item ids do not belong to a table of 2 items"):
        write_index(tmp_path / "x.json", ["a"], adopt(np.zeros((2, 2), dtype=np.int32), np.zeros((2, 4)))[0])
    with pytest.raises(DataError, match="item 'b': '' is not a semantic id"):
        parse_paths(["a", "b"], ["<a_1>", None], "items.parquet")


@pytest.mark.real_data
@pytest.mark.skipif(not ITEMS.is_file(), reason=f"{ITEMS} is absent; ASTERISM_DATA names a folder that holds it")
def test_published_codes_are_read(tmp_path: Path) -> None:
    items = pq.read_table(ITEMS)
    item_ids = items["item_id"].to_pylist()
    found = parse_paths(item_ids, items["published_sid"].to_pylist(), str(ITEMS))
    table, _ = adopt(found.paths, np.random.default_rng(0).normal(size=(3686, 4)))
    assert (len(table), table.codebook_sizes[:3]) == (3686, (256, 256, 256))
    assert (table.codes[:, -1] > 0).sum() == 16  # items that share the path of an earlier one
    write_index(tmp_path / "x.index.json", item_ids, table)
    assert json.loads((tmp_path / "x.index.json").read_text())["0"] == ["<a_236>", "<b_231>", "<c_226>", "<d_0>"]
