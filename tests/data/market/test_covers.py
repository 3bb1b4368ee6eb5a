"""Covers: valid, small, safe, different."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from asterism.data.market import Market
from asterism.data.market.category import subcategories
from asterism.data.market.covers import draw_cover, mix, shift_colour

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_every_cover_is_small_valid_and_its_own(market: Market) -> None:
    covers = [market.cover(item) for item in range(len(market.items))]
    assert len(set(covers)) == len(covers)
    titles = market.dataset().items["title"].to_pylist()
    for cover, title in zip(covers, titles, strict=True):
        root = ElementTree.fromstring(cover)
        assert root.get("viewBox") == "0 0 480 320"
        assert root.findtext(f"{NAMESPACE}title") == title
        assert len(cover.encode()) < 3_072
    assert covers[0] == market.cover(0)


@pytest.mark.parametrize("place", range(0, len(subcategories()), 4))
def test_hostile_titles_are_text_and_nothing_else(place: int) -> None:
    title = "<script>alert(\"1\")</script> & 'x' \x00\x1b ]]> " + "long" * 200
    cover = draw_cover(subcategories()[place], title, np.zeros(8), [0, 5, 1])
    root = ElementTree.fromstring(cover)
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert "<script" not in cover
    written = [one.text for one in root.iter(f"{NAMESPACE}tspan")]
    assert len(written) == 3
    assert all(one is not None and len(one) <= 25 for one in written)


def test_an_empty_title_is_drawn() -> None:
    ElementTree.fromstring(draw_cover(subcategories()[0], "", np.zeros(8), [1]))


def test_colours_by_hand() -> None:
    assert mix("#000000", "#ffffff", 0.5) == "#808080"
    assert shift_colour("#ff0000", 1 / 3, 0.0) == "#00ff00"
    assert shift_colour("#400000", 0.0, 1.0) == "#800000"
