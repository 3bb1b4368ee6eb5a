"""Purity, examples, neighbours and collapses, by hand; the page holds what the numbers say."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest

from asterism.core.errors import DataError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids import Codebooks, render_report, report, report_html, report_json, unique_table
from asterism.semantic_ids.collisions import reassign_colliding
from asterism.semantic_ids.meaning import category_labels, prefix_examples, prefix_purity
from asterism.semantic_ids.neighbours import neighbour_overlap

TABLE = SemanticIdTable(np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 2, 0], [1, 2, 1]]), (2, 4, 4))
ITEMS = pa.table(
    {
        "item_id": list("vwxyz"),
        "title": ["red <b>hat</b>", "blue hat", None, "oak chair", "pine chair"],
        "categories": [["Shop", "Hats"], ["Shop", "Hats"], ["Shop", "Shoes"], ["Shop", "Chairs"], ["Shop"]],
    }
)


def test_categories_are_told_apart_where_they_first_differ() -> None:
    labels = category_labels(ITEMS)
    assert labels is not None
    assert labels.tolist() == [1, 1, 2, 0, -1]
    assert category_labels(pa.table({"categories": ["a, b", "a, c"]})).tolist() == [0, 1]  # type: ignore[union-attr]
    assert category_labels(ITEMS.select(["title"])) is None
    assert category_labels(pa.table({"categories": [["a"], ["a"]]})) is None


def test_purity_by_hand() -> None:
    labels = np.array([1, 1, 2, 0, -1])
    assert prefix_purity(TABLE, 1, labels) == pytest.approx(2 / 3)  # of three known under <a_0>; <a_1> has one known
    assert prefix_purity(TABLE, 2, labels) == pytest.approx(1 / 2)
    assert prefix_purity(TABLE, 3, labels) is None
    assert prefix_purity(TABLE, 1, np.full(5, -1)) is None


def test_examples_by_hand() -> None:
    examples = prefix_examples(TABLE, ITEMS["title"].to_pylist())
    assert [(one.prefix, one.items) for one in examples] == [
        ("<a_0>", 3), ("<a_1>", 2), ("<a_0><b_1>", 2), ("<a_1><b_2>", 2), ("<a_0><b_0>", 1),
    ]  # fmt: skip
    assert examples[0].titles == ("red <b>hat</b>", "blue hat", "(no title)")


def test_neighbours_by_hand() -> None:
    line = np.arange(13.0)[:, None]
    assert neighbour_overlap(line, line) == 1.0
    assert neighbour_overlap(line[:2], line[:2]) == 1.0
    assert neighbour_overlap(line[:1], line[:1]) is None
    rng = np.random.default_rng(0)
    overlap = neighbour_overlap(rng.normal(size=(500, 8)), rng.normal(size=(500, 8)))
    assert overlap is not None
    assert overlap < 0.1


def test_a_collapse_is_named() -> None:
    codes = np.zeros((100, 3), dtype=np.int32)
    codes[:, 1], codes[:, 2] = np.arange(100) % 20, np.arange(100) // 20
    codes[:5, 0] = 1
    (sentence,) = report(SemanticIdTable(codes, (32, 32, 32))).collapsed_levels
    assert "level a has collapsed: 2 of 32 codes are used, and the commonest holds 95% of the items" in sentence


def test_moved_items_and_the_rate_before_they_moved() -> None:
    codebooks = Codebooks((np.array([[0.0], [1.0], [9.0]], dtype=np.float32),))
    vectors = np.array([[0.0], [0.2], [0.1], [9.0]])
    moved = reassign_colliding(codebooks, vectors, codebooks.assign(vectors))
    assert moved.tolist() == [[0], [1], [0], [2]]
    found = report(unique_table(moved, 3), codebooks, vectors)
    assert (found.collision_rate_nearest, found.moved_items, found.collision_rate_before) == (0.5, 1, 0.25)


def test_the_page_needs_nothing_but_itself_and_escapes_titles() -> None:
    reports = {"mine": report(TABLE, items=ITEMS), "theirs": report(TABLE)}
    page = report_html(reports)
    assert "red &lt;b&gt;hat&lt;/b&gt;" in page
    assert page.count("<svg") == 1
    assert not re.search(r"(src|href)=\"https?:", page)
    assert all(f"<h2>{name}</h2>" in page for name in reports)
    assert json.loads(report_json(reports))["mine"]["levels"][0]["purity"] == pytest.approx(2 / 3)
    assert render_report(reports["mine"]) is not None


def test_a_catalogue_of_other_items_is_refused() -> None:
    with pytest.raises(DataError, match="a catalogue of 4 items does not belong to a table of 5 items"):
        report(TABLE, items=ITEMS.slice(0, 4))
