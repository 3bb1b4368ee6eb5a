"""Cursors: what was shown comes back out, across catalogues, and nothing else is taken for one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.errors import CursorError
from asterism.core.ids import IdMap
from asterism.serving.scroll import MAX_SHOWN, Scroll, Scrolls

IDS = IdMap([f"item-{number}" for number in range(3000)])
SCROLLS = Scrolls(IDS)


def test_a_scroll_without_a_cursor_is_at_its_start() -> None:
    assert SCROLLS.read(None) == Scroll((), frozenset())


@given(pages=st.lists(st.lists(st.sampled_from(IDS.ids), max_size=20), max_size=5))
def test_what_was_shown_comes_back_page_after_page(pages: list[list[str]]) -> None:
    cursor, shown = None, []
    for page in pages:
        cursor = SCROLLS.after(SCROLLS.read(cursor), page)
        shown += page
        read = SCROLLS.read(cursor)
        assert read.item_ids == frozenset(shown)
        assert len(read.marks) == len(shown)


def test_a_cursor_outlives_the_catalogue_it_was_made_with() -> None:
    cursor = SCROLLS.after(Scroll(), ["item-5", "item-7"])
    other = Scrolls(IdMap(["new", "item-7"]))
    read = other.read(cursor)
    assert (read.item_ids, len(read.marks)) == ({"item-7"}, 2)
    assert other.read(other.after(read, ["new"])).item_ids == {"item-7", "new"}
    assert SCROLLS.read(other.after(read, ["new"])).item_ids == {"item-5", "item-7"}


def test_a_scroll_ends_before_its_cursor_grows_without_bound() -> None:
    cursor = SCROLLS.after(Scroll(), IDS.ids[: MAX_SHOWN - 1])
    assert cursor is not None
    assert len(cursor) < 6700
    almost = SCROLLS.read(cursor)
    assert len(almost.item_ids) == MAX_SHOWN - 1
    assert SCROLLS.after(almost, ["item-2000"]) is None


@pytest.mark.parametrize(("count", "pages"), [(100, 10), (50, 20), (1, 1000), (30, 34)])
def test_a_scroll_has_no_page_behind_the_one_that_fills_it(count: int, pages: int) -> None:
    scroll = Scroll()
    for page in range(1, pages + 1):
        cursor = SCROLLS.after(scroll, IDS.ids[len(scroll.marks) : len(scroll.marks) + count])
        assert (cursor is None) == (page == pages)
        scroll = SCROLLS.read(cursor)


@given(cursor=st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_cursor_is_told_so(cursor: str) -> None:
    with pytest.raises(CursorError, match="begin anew"):
        SCROLLS.read(cursor)


def test_a_changed_cursor_is_told_so() -> None:
    cursor = SCROLLS.after(Scroll(), IDS.ids[:10])
    assert cursor is not None
    for place in range(len(cursor)):
        other = "A" if cursor[place] != "A" else "B"
        with pytest.raises(CursorError):
            SCROLLS.read(cursor[:place] + other + cursor[place + 1 :])
        with pytest.raises(CursorError):
            SCROLLS.read(cursor[:place])
    with pytest.raises(CursorError, match="longer than"):
        SCROLLS.read("A" * 10_000)
