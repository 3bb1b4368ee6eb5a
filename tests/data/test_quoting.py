"""Double quotes in text files: around cells, inside cells, and where they would join rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asterism.core.errors import DataError
from asterism.data.importing import Imported
from asterism.data.readers import delimited
from asterism.data.readers.delimited import layout_of, read_delimited

Write = Callable[[str, str], Path]
NOTE = "not every double quote encloses a cell, so all were read as plain characters"


def read(file: Path) -> list[list[str]]:
    table = read_delimited(file, layout_of(file)).table
    return [[cell.decode() for cell in row.values()] for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (['1\t"Heroes', "2\tb", "3\tc", '4\t"Low'], [["1", '"Heroes'], ["2", "b"], ["3", "c"], ["4", '"Low']]),
        (['"Heroes\t1', "b\t2", '"Low\t3'], [['"Heroes', "1"], ["b", "2"], ['"Low', "3"]]),
        (['1\t"Heroes', '2\tLow"'], [["1", '"Heroes'], ["2", 'Low"']]),
        (['1\t"Heroes" live', "2\tb"], [["1", '"Heroes" live'], ["2", "b"]]),
        (['1\t12" vinyl', "2\tb"], [["1", '12" vinyl'], ["2", "b"]]),
        (['1\t"a\tb"', '"2"\tb'], [["1", "a\tb"], ["2", "b"]]),
        (['1\t"a ""b"""', "2\tb"], [["1", 'a "b"'], ["2", "b"]]),
        (['1\t"two\nlines"', "2\tb"], [["1", "two\nlines"], ["2", "b"]]),
    ],
)
def test_quotes_between_tabs(write: Write, rows: list[str], expected: list[list[str]]) -> None:
    assert read(write("a.tsv", "\n".join(["item_id\ttitle", *rows]))) == expected


def test_quotes_that_are_plain_characters_are_said(write: Write, stop: Callable[..., Imported]) -> None:
    items = write("items.tsv", 'item_id\ttitle\tbrand\n1\t"Heroes\tRock\n2\tb\tx\n3\t"Low\tRock\n')
    imported = stop(write("a.csv", "user_id,item_id,timestamp\nu,1,1\n"), items)
    assert imported.dataset.items["title"].to_pylist() == ['"Heroes', "b", '"Low']
    assert imported.summary.notes == [f"{items}: {NOTE}"]


def test_an_inch_sign_is_no_opened_quote(write: Write) -> None:
    assert read(write("a.csv", 'item_id,title\n1,12" vinyl\n2,b\n')) == [["1", '12" vinyl'], ["2", "b"]]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('item_id,title\n1,a\n2,"Heroes\n3,c\n', 3),
        ('item_id,title\n1,"two\nlines"\n\n2,"Heroes\n3,c\n4,"Low\n5,d\n', 5),
        ('item_id,title\n1,a\n2,"Heroes\n' + "3,c\n" * 40, 3),
    ],
)
def test_rows_that_a_quote_would_join_are_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, content: str, line: int
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_BYTES", 64)
    with pytest.raises(DataError, match=re.escape("a double quote is never closed at the end of its cell")) as caught:
        read(write("a.csv", content))
    assert caught.value.line == line


def test_cells_over_lines_and_blank_lines_are_no_joined_rows(write: Write) -> None:
    text = 'item_id,title\r\n\r\n1,"two\r\nlines, quoted"\r\n2,"say ""hi"""\r\n'
    assert read(write("a.csv", text)) == [["1", "two\r\nlines, quoted"], ["2", 'say "hi"']]
