"""One conformance suite for every catalogue, then what is particular to the SQLite one."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.errors import StorageError, UnknownIdError
from asterism.stores.catalogue import Catalogue, Item
from asterism.stores.sqlite_catalogue import MIGRATIONS, SqliteCatalogue

VEGA = Item("vega", "Vega 50% lamp", "A lamp.", ("home", "light"), "Lyra", 12.5, created_at=7)
DENEB = Item("deneb", "deneb_mug", categories=("home",))
GONE = Item("gone", "Sold out", available=False)
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"

Opener = Callable[[], Catalogue]


@pytest.fixture(params=["sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the catalogue of one place, again and again."""
    openers: dict[str, Opener] = {"sqlite": lambda: SqliteCatalogue(tmp_path / "catalogue.db")}
    return openers[request.param]


def test_what_was_put_in_comes_out(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA, DENEB], {"vega": SVG})
    catalogue.close()
    again = opener()
    assert again.get("vega") == replace(VEGA, has_image=True)
    assert again.many(["deneb", "nobody", "deneb"]) == {"deneb": DENEB}
    assert (again.image("vega"), again.image("deneb"), len(again)) == (SVG, None, 2)
    again.close()


def test_upsert_replaces(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA])
    catalogue.upsert([replace(VEGA, price=3.0)])
    assert (catalogue.get("vega").price, len(catalogue)) == (3.0, 1)
    catalogue.close()


def test_an_unknown_item_is_an_error_that_names_it(opener: Opener) -> None:
    catalogue = opener()
    for ask in (catalogue.get, catalogue.image, lambda one: catalogue.set_hidden(one, True)):
        with pytest.raises(UnknownIdError, match="'nobody'"):
            ask("nobody")
    catalogue.close()


def test_a_hidden_item_is_unavailable_and_stays_hidden_after_an_upsert(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA, DENEB, GONE])
    assert catalogue.unavailable() == {"gone"}
    catalogue.set_hidden("vega", True)
    catalogue.upsert([VEGA])
    assert (catalogue.unavailable(), catalogue.get("vega").available) == ({"gone", "vega"}, False)
    catalogue.set_hidden("vega", False)
    assert catalogue.unavailable() == {"gone"}
    catalogue.close()


def test_search_by_text_category_and_availability(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA, DENEB, GONE])

    def found(text: str = "", category: str | None = None, available: bool | None = True) -> list[str]:
        return [item.item_id for item in catalogue.search(text, category=category, available=available)]

    assert found() == ["deneb", "vega"]
    assert found("VEGA") == ["vega"]
    assert (found("50%"), found("5%"), found("deneb_"), found("denebx")) == (["vega"], [], ["deneb"], [])
    assert (found(category="light"), found(category="lig")) == (["vega"], [])
    assert (found(available=False), found(available=None)) == (["gone"], ["deneb", "gone", "vega"])
    assert [item.item_id for item in catalogue.search(limit=1)] == ["deneb"]
    catalogue.close()


def test_sync_withdraws_what_the_new_bundle_does_not_hold(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([GONE, replace(DENEB, item_id="by-hand")])
    catalogue.sync([VEGA, DENEB], {"vega": SVG}, "one")
    catalogue.sync([VEGA], {}, "two")
    assert catalogue.unavailable() == {"gone", "deneb"}
    assert catalogue.image("vega") == SVG
    catalogue.sync([VEGA, DENEB], {}, "three")
    assert catalogue.unavailable() == {"gone"}
    catalogue.close()


def test_more_ids_than_one_query_takes(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert(replace(DENEB, item_id=f"i{number}") for number in range(2000))
    assert len(catalogue.many(f"i{number}" for number in range(2500))) == 2000
    catalogue.close()


def test_threads_share_a_catalogue(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA])
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: catalogue.get("vega"), range(100))) == {VEGA}
    catalogue.close()


def test_a_file_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StorageError, match="upgrade Asterism"):
        SqliteCatalogue(path)


def test_a_file_that_is_no_catalogue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    path.write_text("not a database " * 100)
    with pytest.raises(StorageError, match=r"catalogue\.db: the catalogue cannot be opened"):
        SqliteCatalogue(path)


def test_a_full_disk_is_named_and_changes_nothing(tmp_path: Path) -> None:
    catalogue = SqliteCatalogue(tmp_path / "catalogue.db")
    catalogue.upsert([VEGA])
    many = [replace(DENEB, item_id=f"i{number}", description="x" * 1000) for number in range(1000)]
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
    try:
        with pytest.raises(StorageError, match=r"catalogue\.db: the catalogue cannot be used .* make room on the disk"):
            catalogue.upsert(many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert (len(catalogue), catalogue.get("vega")) == (1, VEGA)
    catalogue.upsert(many)
    assert len(catalogue) == 1001
    catalogue.close()
