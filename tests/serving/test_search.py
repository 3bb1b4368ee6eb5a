"""Search: words first, what lies near the hits beside them, and clear words where there are no vectors."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asterism.core.errors import StoreUnavailableError
from asterism.core.ids import IdMap
from asterism.serving.search import Search, Vectors
from asterism.stores.catalogue import ANY_ITEM, Item, ItemFilter
from asterism.stores.opening import open_warm
from asterism.stores.vectors import ExactVectorIndex, Neighbour
from serving.running import Server, ids
from serving.small_market import SOLD_OUT, category_of

ITEMS = [
    Item("lamp", "Brass lamp", price=5.0),
    Item("shade", "Paper shade", price=6.0),
    Item("candle", "Candle", price=7.0),
    Item("tent", "Tent", price=8.0),
    Item("late", "Lamp that came later", price=9.0),
]
#: Cosines to the lamp: shade 0.9701, candle 0.7071, tent 0.
VECTORS = np.array([[1, 0], [4, 1], [1, 1], [0, 1]], dtype=np.float32)


class Silent(ExactVectorIndex):
    """An index whose store is down."""

    def nearest(self, item_id: str, count: int, exclude: Collection[str] = ()) -> list[Neighbour]:
        raise StoreUnavailableError("Milvus cannot be reached; start it")

    def similarities(self, item_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        raise StoreUnavailableError("Milvus cannot be reached; start it")


@pytest.fixture
def index() -> ExactVectorIndex:
    return ExactVectorIndex(IdMap(one.item_id for one in ITEMS[:4]), VECTORS)


@pytest.fixture
def search(tmp_path: Path, index: ExactVectorIndex) -> Iterator[Search]:
    catalogue = open_warm(f"sqlite:///{tmp_path / 'catalogue.db'}").catalogue
    catalogue.upsert(ITEMS)
    yield Search(catalogue, index)
    catalogue.close()


def test_words_and_vectors_are_fused_by_their_places(search: Search) -> None:
    answer = search.find("brass lamp", ANY_ITEM, 10)
    assert answer.vectors == Vectors.HITS
    found = {one.item.item_id: (one.text_place, one.vector_place, one.score) for one in answer.found}
    assert found == {
        "lamp": (1, 1, 1 / 61 + 1 / 61),
        "late": (2, None, 1 / 62),
        "shade": (None, 2, 1 / 62),
        "candle": (None, 3, 1 / 63),
        "tent": (None, 4, 1 / 64),
    }
    assert [one.item.item_id for one in answer.found] == ["lamp", "late", "shade", "candle", "tent"]


def test_a_better_hit_pulls_more(search: Search) -> None:
    """The lamp weighs 1, the tent 1 / 2: shade 0.9701 + 0.2425 / 2, candle 0.7071 · 3 / 2, lamp 1, tent 1 / 2."""
    answer = search.find("brass lamp tent", ItemFilter(max_price=8.0), 10)
    assert [one.item.item_id for one in answer.found if one.text_place] == ["lamp", "tent"]
    by_vectors = sorted((one.vector_place or 0, one.item.item_id) for one in answer.found)
    assert by_vectors == [(1, "shade"), (2, "candle"), (3, "lamp"), (4, "tent")]


def test_filters_hold_for_both_and_hits_outside_of_them_still_say_what_is_near(search: Search) -> None:
    answer = search.find("brass", ItemFilter(min_price=5.5, max_price=7.0), 10)
    assert [(one.item.item_id, one.text_place) for one in answer.found] == [("shade", None), ("candle", None)]


def test_nothing_is_found_for_no_words_and_an_item_without_vector_is_found_by_words_alone(search: Search) -> None:
    assert search.find("!?", ANY_ITEM, 10) == ([], Vectors.NONE)
    assert search.find("nothing like it", ANY_ITEM, 10) == ([], Vectors.NONE)
    answer = search.find("came later", ANY_ITEM, 10)
    assert ([one.item.item_id for one in answer.found], answer.vectors) == (["late"], Vectors.NONE)


def test_a_part_of_a_title_is_found_where_no_word_is(search: Search) -> None:
    assert search.find("andl", ANY_ITEM, 1).found[0].item.item_id == "candle"


def test_a_part_of_a_title_is_found_behind_more_titles_than_are_looked_at(search: Search, tmp_path: Path) -> None:
    catalogue = open_warm(f"sqlite:///{tmp_path / 'catalogue.db'}").catalogue
    catalogue.upsert(Item(f"{number:03}", f"新東京{number:03}", price=1.0) for number in range(120))
    catalogue.upsert([Item("dear", "旧東京", brand="Vega", price=900.0)])
    catalogue.close()
    for wanted in (ItemFilter(brands=("Vega",)), ItemFilter(min_price=800.0)):
        assert [one.item.item_id for one in search.find("東京", wanted, 5).found] == ["dear"]


@pytest.mark.parametrize("title", ["Crème Brûlée", "ガラス細工", "Ångström Cable"])
def test_how_an_accent_is_composed_makes_no_difference(search: Search, tmp_path: Path, title: str) -> None:
    catalogue = open_warm(f"sqlite:///{tmp_path / 'catalogue.db'}").catalogue
    composed, apart = (unicodedata.normalize(form, title) for form in ("NFC", "NFD"))
    catalogue.upsert([Item("composed", composed), Item("apart", apart)])
    catalogue.close()
    for asked in (composed, apart, composed[:3], apart[:4]):
        found = search.find(asked, ANY_ITEM, 5).found
        assert sorted(one.item.item_id for one in found) == ["apart", "composed"], asked


def test_without_the_store_of_vectors_words_are_enough(tmp_path: Path) -> None:
    catalogue = open_warm(f"sqlite:///{tmp_path / 'catalogue.db'}").catalogue
    catalogue.upsert(ITEMS)
    answer = Search(catalogue, Silent(IdMap(["lamp"]), VECTORS[:1])).find("brass", ANY_ITEM, 5)
    assert ([one.item.item_id for one in answer.found], answer.vectors) == (["lamp"], Vectors.UNAVAILABLE)
    catalogue.close()


def test_the_route_searches_filters_and_refuses(server: Server) -> None:
    def ask(**parameters: object) -> dict[str, object]:
        return dict(server.http.get("/api/v1/search", params=parameters).json())  # type: ignore[arg-type]

    answer = ask(q="mugs", count=14)["data"]
    assert isinstance(answer, dict)
    assert {category_of(one) for one in ids(answer)} == {"mugs"}
    assert (len(ids(answer)), SOLD_OUT in ids(answer), answer["vectors"]) == (14, False, "hits")
    assert answer["latency_ms"] > 0
    cheap = ask(q="star", category=["mugs", "tents"], max_price=21)["data"]
    assert isinstance(cheap, dict)
    assert set(ids(cheap)) == {"mugs-00", "mugs-01"}
    for wrong in ({}, {"q": ""}, {"q": "x" * 257}, {"q": "x", "count": 0}, {"q": "x", "min_price": 2, "max_price": 1}):
        assert ask(**wrong)["code"] == 20001
    assert ask(q="' OR 1=1 --\x00", category="\x00", brand="x'; DROP TABLE items")["code"] == 0
