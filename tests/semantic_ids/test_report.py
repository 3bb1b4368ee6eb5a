"""The report's numbers, by hand."""

from __future__ import annotations

import math
from io import StringIO

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rich.console import Console

from asterism.core.errors import DataError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids import Codebooks, render_report, report

CODES = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 2, 0]])
TABLE = SemanticIdTable(CODES, (2, 4, 4))
CODEBOOKS = Codebooks(
    (np.array([[0.0], [8.0]], dtype=np.float32), np.array([[-1.0], [1.0], [0.0], [9.0]], dtype=np.float32))
)
VECTORS = np.array([[-1.0], [1.0], [2.0], [8.0]])


def test_usage_and_the_shape_of_the_tree() -> None:
    first, second, last = report(TABLE).levels
    assert (first.codebook_size, first.used_codes, first.mean_children, first.max_children) == (2, 2, 2.0, 2)
    assert (second.used_codes, second.mean_children, second.max_children) == (3, 1.5, 2)
    assert (last.used_codes, last.max_children) == (2, 2)
    assert_allclose(last.mean_children, 4 / 3)
    assert_allclose(first.perplexity, math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert_allclose(second.perplexity, math.exp(1.5 * math.log(2)))


def test_collisions_before_and_after() -> None:
    found = report(TABLE)
    assert (found.items, found.largest_group) == (4, 2)
    assert (found.collision_rate_before, found.collision_rate_after) == (0.25, 0.0)


def test_the_error_left_after_each_level() -> None:
    spread = sum((x - 2.5) ** 2 for x in (-1, 1, 2, 8))
    errors = [level.relative_error for level in report(TABLE, CODEBOOKS, VECTORS).levels]
    assert_allclose(errors[:2], [(1 + 1 + 4) / spread, 1 / spread])
    assert errors[2] is None


def test_vectors_of_other_items_are_refused() -> None:
    with pytest.raises(DataError, match="3 vectors do not belong to a table of 4 items"):
        report(TABLE, CODEBOOKS, VECTORS[:3])


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match="no semantic ids"):
        report(SemanticIdTable(np.zeros((0, 2)), (4, 4)))


def test_the_terminal_table_shows_the_numbers() -> None:
    console = Console(record=True, width=120, file=StringIO())
    console.print(render_report(report(TABLE, CODEBOOKS, VECTORS)))
    text = console.export_text()
    assert "25.00% before" in text
    assert "1.50" in text
