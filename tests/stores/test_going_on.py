"""What a gateway goes on with while a database or a vector index is down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asterism.core.errors import StoreUnavailableError, UnknownIdError
from asterism.core.ids import IdMap
from asterism.stores.catalogue import Catalogue, Item
from asterism.stores.opening import open_warm
from asterism.stores.remembered_catalogue import RememberedCatalogue
from asterism.stores.vectors import ExactVectorIndex
from asterism.stores.vectors_beside import VectorsBeside

VEGA, DENEB, ALTAIR = Item("vega", "Vega"), Item("deneb", "Deneb"), Item("altair", "Altair")


def down(*_: Any, **__: Any) -> Any:
    raise StoreUnavailableError("the store is down")


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return open_warm(f"sqlite:///{tmp_path}/catalogue.db").catalogue


def test_items_are_answered_as_last_known(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = RememberedCatalogue(catalogue)
    remembered.sync([VEGA, DENEB], {}, "one")
    catalogue.upsert([ALTAIR])
    assert [remembered.has_met(one) for one in ("vega", "altair")] == [True, False]
    assert remembered.unknown(["vega", "altair", "nobody"]) == ["nobody"]
    assert remembered.has_met("altair")
    remembered.delete(["deneb"])
    monkeypatch.setattr(catalogue, "many", down)
    assert remembered.many(["vega", "altair", "deneb"]) == {"vega": VEGA, "altair": ALTAIR}
    assert remembered.get("vega") == VEGA
    assert remembered.unknown(["nobody"]) == [], "it cannot be found out"
    with pytest.raises(UnknownIdError):
        remembered.get("deneb")
    remembered.close()


def test_so_many_items_are_remembered_and_the_newest_asked_for_stay(catalogue: Catalogue) -> None:
    remembered = RememberedCatalogue(catalogue, max_items=2)
    remembered.upsert([VEGA, DENEB, ALTAIR])
    for one in ("vega", "deneb", "vega", "altair"):
        remembered.get(one)
    assert [remembered.has_met(one) for one in ("vega", "deneb", "altair")] == [True, False, True]
    remembered.close()


def test_bundles_served_beside_each_other_keep_their_items(catalogue: Catalogue) -> None:
    catalogue.sync([VEGA, DENEB], {}, "old")
    catalogue.sync([DENEB, ALTAIR], {}, "new", beside={"old"})
    assert catalogue.unavailable() == frozenset(), "what only the old bundle has is still served by it"
    catalogue.sync([VEGA, DENEB], {}, "old", beside={"new"})
    assert catalogue.unavailable() == frozenset()
    catalogue.sync([DENEB, ALTAIR], {}, "new")
    assert catalogue.unavailable() == {"vega"}, "the old one is gone"
    catalogue.close()


def test_neighbours_come_from_the_index_once_it_is_filled_and_from_here_while_it_is_down() -> None:
    items, vectors = IdMap("abc"), np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    here = ExactVectorIndex(items, vectors)
    elsewhere = ExactVectorIndex(IdMap("ac"), vectors[[0, 2]])  # holds less, so that its answers are told apart
    filled: list[Callable[..., Any]] = [down]
    both = VectorsBeside(here, elsewhere, lambda: filled[0]())

    def nearest() -> str:
        return both.nearest("a", 1)[0].item_id

    assert nearest() == "b"
    both.fill()
    assert nearest() == "b", "an index that could not be filled is not asked"
    filled[0] = lambda: None
    both.fill()
    assert nearest() == "c"
    elsewhere.nearest = down  # type: ignore[method-assign]
    assert nearest() == "b"
    assert both.similarities(["a"], ["b"]) == here.similarities(["a"], ["b"])
    both.close()
