"""One conformance suite for the catalogue on every database."""

from __future__ import annotations

import io
import resource
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from asterism.core.errors import DataError, StorageError, UnknownIdError
from asterism.stores import sql_texts
from asterism.stores.catalogue import ANY_ITEM, Catalogue, Item, ItemFilter, StoredItem
from asterism.stores.json_lines import export_items, import_items
from asterism.stores.sql_catalogue import SqlCatalogue
from asterism.stores.sql_database import Database
from contracts.postgres_server import Postgres
from serving.running import wait_until

VEGA = Item("vega", "Vega 50% lamp", "A lamp.", ("home", "light"), "Lyra", 12.5, created_at=7)
DENEB = Item("deneb", "deneb_mug", categories=("home",))
GONE = Item("gone", "Sold out", available=False)
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"

Opener = Callable[[], Catalogue]


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the catalogue of one place, again and again."""
    url = f"sqlite:///{tmp_path / 'catalogue.db'}"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.emptied()
    return lambda: SqlCatalogue(Database(url, timeout_seconds=60.0), refresh_seconds=0.02)


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


def test_what_is_unavailable_is_the_same_object_until_anything_changes(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([Item("a", "One"), Item("b", "Two")])
    changes = [
        lambda: catalogue.upsert([Item("a", "Another title")]),
        lambda: catalogue.upsert([], {"a": "<svg/>"}),
        lambda: catalogue.set_hidden("b", True),
        lambda: catalogue.delete(["b"]),
        lambda: catalogue.sync([Item("c", "Three")], {}, "v2"),
    ]
    for number, change in enumerate(changes):
        before = catalogue.unavailable()
        catalogue.many(["a", "b"])
        time.sleep(0.25)  # longer than a look at what others changed
        assert catalogue.unavailable() is before, number
        change()
        assert catalogue.unavailable() is not before, number
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


def test_words_are_found_in_title_brand_and_categories_best_first(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert(
        [
            Item("both", "Paper lamp"),
            Item("title", "A lamp of brass, heavy and old"),
            Item("brand", "Mug", brand="Paper & Sons"),
            Item("category", "Tent", categories=("paper",), price=7.5),
            Item("hidden", "Paper"),
            GONE,
        ]
    )
    catalogue.set_hidden("hidden", True)

    def found(text: str, wanted: ItemFilter = ANY_ITEM, limit: int = 100) -> list[str]:
        return [item.item_id for item in catalogue.find(text, wanted, limit)]

    assert found("paper lamp") == ["both", "title", "brand", "category"]
    assert (found("PAPER"), found("paper", limit=1)) == (["both", "brand", "category"], ["both"])
    assert (found("lam"), found("lam old"), found("amp")) == (["both", "title"], ["title"], [])
    assert found("paper", ItemFilter(categories=("paper", "none"))) == ["category"]
    assert found("paper", ItemFilter(brands=("Paper & Sons",))) == ["brand"]
    assert (found("paper", ItemFilter(min_price=7.5)), found("paper", ItemFilter(max_price=7))) == (["category"], [])
    assert (found(""), found("  !? "), found("sold")) == ([], [], [])
    catalogue.upsert([Item("both", "Something else")])
    assert catalogue.delete(["title"]) == 1
    assert found("lamp paper") == ["brand", "category"]
    catalogue.close()


@pytest.mark.parametrize(
    ("title", "question"),
    [
        ("Lampe für die Straße", "STRASSE"),
        ("Бронзовая лампа", "ЛАМПА"),
        ("雨傘 赤い", "雨傘"),
        ("a'b \\ : & | ! <-> (c) *", "b' & ! c:*"),
        ('NEAR("x") AND OR NOT', 'NEAR( OR "not'),
        ("under_score", "score"),
        ("x" * 5000, "x" * 5000),
        ("zero", "ze\x00ro zero"),
        ("é\u0301\u202eabc", "\u202eABC"),
    ],
)
def test_whatever_is_asked_is_words_and_no_syntax(opener: Opener, title: str, question: str) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA, Item("odd", title)])
    assert [item.item_id for item in catalogue.find(question)] == ["odd"]
    catalogue.close()


def test_what_was_changed_by_hand_stays_until_another_bundle_comes(opener: Opener) -> None:
    catalogue = opener()
    catalogue.sync([VEGA, DENEB], {}, "one")
    catalogue.upsert([replace(VEGA, title="Mended")])
    catalogue.delete(["deneb"])
    assert catalogue.unavailable() == {"deneb"}, "the model knows it still"
    catalogue.sync([VEGA, DENEB], {}, "one")
    assert (catalogue.get("vega").title, len(catalogue)) == ("Mended", 1)
    catalogue.sync([VEGA, DENEB], {}, "two")
    assert (catalogue.get("vega").title, len(catalogue), catalogue.unavailable()) == (VEGA.title, 2, frozenset())
    assert [item.item_id for item in catalogue.find("deneb mug")] == ["deneb"]
    catalogue.close()


@pytest.mark.parametrize("price", [None, 0.0, 5.0, 10.0])
def test_a_filter_lets_through_the_same_in_memory(opener: Opener, price: float | None) -> None:
    catalogue = opener()
    item = Item("one", "Star", categories=("a", "b"), brand="Lyra", price=price)
    catalogue.upsert([item])
    for wanted in (
        ANY_ITEM,
        ItemFilter(min_price=0.0),
        ItemFilter(max_price=5.0),
        ItemFilter(min_price=5.0, max_price=10.0),
        ItemFilter(categories=("b", "c")),
        ItemFilter(categories=("c",)),
        ItemFilter(brands=("Lyra",), min_price=1.0),
        ItemFilter(brands=("Vega",)),
    ):
        assert bool(catalogue.find("star", wanted)) == wanted.lets_through(item), wanted
        assert bool(catalogue.search("tar", wanted=wanted)) == wanted.lets_through(item), wanted
    catalogue.close()


def test_an_export_goes_on_behind_an_id(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA, DENEB, GONE])
    assert [one.item.item_id for one in catalogue.export(after="deneb")] == ["gone", "vega"]
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


ODD_TEXTS = ["é⭐", "'; DROP TABLE items; --", "%s %(x)s :y ?", "a\\b", "\u2028\t\n", "{}", '"', "x" * 50_000]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_is_text_like_any_other(opener: Opener, text: str) -> None:
    catalogue = opener()
    odd = Item(text[:500], text, text, (text, "home"), text, -0.5, created_at=-7)
    catalogue.upsert([VEGA, odd], {odd.item_id: text})
    assert (catalogue.get(odd.item_id), catalogue.image(odd.item_id)) == (replace(odd, has_image=True), text)
    for found in (catalogue.search(text), catalogue.search(category=text), catalogue.search(text[1:-1] or text)):
        assert [item.item_id for item in found if item.item_id != "vega"] == [odd.item_id]
    catalogue.set_hidden(odd.item_id, True)
    assert catalogue.unavailable() == {odd.item_id}
    assert catalogue.delete([odd.item_id, odd.item_id, "nobody"]) == 1
    assert (len(catalogue), catalogue.unavailable()) == (1, frozenset())
    catalogue.close()


def test_a_zero_character_is_found_nowhere(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA])
    assert (catalogue.search("\x00"), catalogue.many(["\x00"]), catalogue.delete(["\x00"])) == ([], {}, 0)
    with pytest.raises(UnknownIdError):
        catalogue.set_hidden("\x00", True)
    catalogue.close()


def test_what_was_exported_makes_the_same_catalogue(opener: Opener, tmp_path: Path) -> None:
    catalogue = opener()
    many = [replace(DENEB, item_id=f"i{number:04}", created_at=number) for number in range(2100)]
    catalogue.upsert([VEGA, GONE, *many], {"vega": SVG})
    catalogue.set_hidden("vega", True)
    stream = io.StringIO()
    assert export_items(catalogue, stream) == 2102
    copy = SqlCatalogue(Database(f"sqlite:///{tmp_path / 'copy.db'}"))
    assert import_items(copy, io.StringIO(stream.getvalue())) == 2102
    again = io.StringIO()
    export_items(copy, again)
    assert again.getvalue() == stream.getvalue()
    assert copy.unavailable() == catalogue.unavailable() == {"vega", "gone"}
    stored = [one for one in catalogue.export() if one.item.item_id == "vega"]
    assert stored == [StoredItem(replace(VEGA, has_image=True), hidden=True, image=SVG)]
    catalogue.delete(one.item_id for one in many)
    assert import_items(catalogue, again.getvalue().splitlines()) == 2102
    assert list(catalogue.export()) == list(copy.export())
    catalogue.close()
    copy.close()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", r"shop\.jsonl:3: it is no JSON"),
        ("[]", r"shop\.jsonl:3: it is no JSON object"),
        ('{"title": "x"}', "field `item_id`: it is missing or empty"),
        ('{"item_id": "x", "title": 5}', "field `title`: 5 is no str"),
        ('{"item_id": "x", "title": "y", "price": true}', "field `price`: True is no float"),
        ('{"item_id": "x", "title": "y", "price": 1e999}', "field `price`: inf is no finite number"),
        ('{"item_id": "x", "title": "y", "categories": [1]}', "field `categories`"),
        ('{"item_id": "x", "title": "y", "kind": "pet"}', "'pet' is none of product, video"),
        ('{"item_id": "x", "title": "y", "colour": "red"}', "field `colour`: it is not known; known here: item_id"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    catalogue = SqlCatalogue(Database(f"sqlite:///{tmp_path / 'catalogue.db'}"))
    with pytest.raises(DataError, match=reason):
        import_items(catalogue, ['{"item_id": "a", "title": "b"}', "", line], source="shop.jsonl")
    assert len(catalogue) == 0
    catalogue.close()


def test_what_one_client_hides_the_other_no_longer_shows(opener: Opener) -> None:
    here, there = opener(), opener()
    here.upsert([VEGA, DENEB])
    there.set_hidden("vega", True)
    assert there.unavailable() == {"vega"}, "at once where it was done"
    deadline = time.monotonic() + 60
    while here.unavailable() != {"vega"}:
        assert time.monotonic() < deadline, "the other client's change was not heard of"
        time.sleep(0.01)
    assert not here.get("vega").available
    here.close()
    there.close()


def test_clients_that_write_the_same_items_in_any_order_do_not_block_each_other(opener: Opener) -> None:
    catalogue = opener()
    items = [replace(DENEB, item_id=f"i{number}") for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda turn: catalogue.upsert(items if turn % 2 else items[::-1]), range(16)))
    assert len(catalogue) == 50
    catalogue.close()


WORDS = st.text(st.sampled_from("abAB_%\\ é"), max_size=3)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(titles=st.lists(WORDS.map(lambda word: word + "x"), min_size=1, max_size=8), asked=WORDS)
def test_every_catalogue_finds_what_a_plain_loop_finds(opener: Opener, titles: list[str], asked: str) -> None:
    catalogue = opener()
    catalogue.delete(stored.item.item_id for stored in catalogue.export())
    catalogue.upsert(Item(f"i{number}", title) for number, title in enumerate(titles))
    found = [(item.title, item.item_id) for item in catalogue.search(asked, limit=100)]
    plain = [(title, f"i{number}") for number, title in enumerate(titles) if _folded(asked) in _folded(title)]
    assert found == sorted(plain, key=lambda one: (_folded(one[0]).encode(), one[1]))
    catalogue.close()


def _folded(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def test_a_database_that_was_put_back_to_an_older_copy_is_heard(opener: Opener) -> None:
    here, there = opener(), opener()
    here.upsert([VEGA, DENEB])
    here.set_hidden("vega", True)
    wait_until(lambda: there.unavailable() == {"vega"})
    there._database.write(  # type: ignore[attr-defined]
        lambda connection: [
            connection.execute(text("UPDATE items SET hidden = (item_id = 'deneb')")),
            connection.execute(text("UPDATE catalogue_changes SET number = 1")),
        ]
    )
    wait_until(lambda: here.unavailable() == there.unavailable() == {"deneb"})
    here.set_hidden("vega", True)
    assert here.unavailable() == {"vega", "deneb"}
    wait_until(lambda: there.unavailable() == {"vega", "deneb"})
    here.close()
    there.close()


def test_whoever_follows_reads_what_was_changed_by_hand_alone(opener: Opener) -> None:
    here, there = opener(), opener()
    here.sync([VEGA, DENEB], {}, "1")
    number = there.change()
    assert list(there.changed_since(0)) == [], "a bundle's own"
    dear = replace(VEGA, price=500.0)
    here.restore([StoredItem(dear)])
    there.set_hidden("deneb", True)
    assert list(there.changed_since(number)) == [dear]
    first = there.change()
    assert first == number + 2
    there.delete(["deneb"])
    there.upsert([replace(DENEB, brand="Swan")])
    assert [(one.item_id, one.brand) for one in here.changed_since(first)] == [("deneb", "Swan")]
    assert [one.item_id for one in here.changed_since(0)] == ["vega", "deneb"]
    second = here.change()
    assert list(here.changed_since(second)) == []
    here.sync([VEGA], {}, "2")
    assert [(one.item_id, one.price) for one in there.changed_since(second)] == [("vega", VEGA.price)]
    here.close()
    there.close()


def test_items_that_an_older_version_indexed_are_found_by_what_they_say(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = opener()
    title = unicodedata.normalize("NFD", "Café ﾃﾚﾋﾞ")
    with monkeypatch.context() as older:
        older.setattr(sql_texts, "words_of", sql_texts._words)
        catalogue.upsert([Item("old", title)])
    catalogue.upsert([Item("new", title)])
    for asked in (title, title.split()[0], title.split()[1]):
        assert {one.item_id for one in catalogue.find(asked)} == {"old", "new"}, asked
    catalogue.close()


def test_thousands_of_changes_are_read_each_once(opener: Opener) -> None:
    catalogue = opener()
    catalogue.upsert([Item(f"a{number:04}", "A") for number in range(1500)])
    first = catalogue.change()
    catalogue.upsert([Item(f"b{number:04}", "B") for number in range(1200)])
    found = [one.item_id for one in catalogue.changed_since(0)]
    assert (len(found), len(set(found))) == (2700, 2700)
    assert len(list(catalogue.changed_since(first))) == 1200
    catalogue.close()


def test_no_change_comes_with_a_number_that_was_read(opener: Opener) -> None:
    """Two write and one follows: whatever is written is read once it is there, however they meet."""
    here, there, follower = opener(), opener(), opener()
    found: dict[str, float | None] = {}
    writing = threading.Event()

    def write(catalogue: Catalogue, name: str) -> None:
        for price in range(25):
            catalogue.upsert([Item(f"{name}{price % 5}", name, price=float(price))])

    def follow() -> None:
        number = 0
        while True:
            was_over = writing.is_set()
            after, number = number, follower.change()
            found.update({one.item_id: one.price for one in follower.changed_since(after)})
            if was_over:
                return

    with ThreadPoolExecutor(3) as threads:
        following = threads.submit(follow)
        writers = [threads.submit(write, catalogue, name) for catalogue, name in ((here, "a"), (there, "b"))]
        for one in writers:
            one.result()
        writing.set()
        following.result()
    assert found == {f"{name}{place}": 20.0 + place for name in "ab" for place in range(5)}
    for one in (here, there, follower):
        one.close()


def test_a_database_that_is_empty_for_a_moment_is_looked_at_again(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = opener()
    catalogue.upsert([VEGA])
    number = text('INSERT INTO catalogue_changes ("only", number) VALUES (1, 1000)')
    write = catalogue._database.write  # type: ignore[attr-defined]
    write(lambda connection: connection.execute(text("DELETE FROM catalogue_changes")))
    watcher = catalogue._watcher  # type: ignore[attr-defined]
    wait_until(lambda: "which items are hidden" in caplog.text or not watcher.is_alive())
    write(lambda connection: [connection.execute(number), connection.execute(text("UPDATE items SET hidden = true"))])
    wait_until(lambda: catalogue.unavailable() == {"vega"} or not watcher.is_alive())
    assert watcher.is_alive()
    catalogue.close()


def test_a_file_that_is_no_catalogue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    path.write_text("not a database " * 100)
    with pytest.raises(StorageError, match=r"SQLite at sqlite:.*catalogue\.db refused \(.*not a database"):
        Database(f"sqlite:///{path}")


def test_a_full_disk_is_named_and_changes_nothing(tmp_path: Path) -> None:
    catalogue = SqlCatalogue(Database(f"sqlite:///{tmp_path / 'catalogue.db'}"))
    catalogue.upsert([VEGA])
    many = [replace(DENEB, item_id=f"i{number}", description="x" * 1000) for number in range(1000)]
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
    try:
        with pytest.raises(StorageError, match=r"database cannot be used .* make room on the disk") as told:
            catalogue.upsert(many)
        assert told.value.is_full
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert (len(catalogue), catalogue.get("vega")) == (1, VEGA)
    catalogue.upsert(many)
    assert len(catalogue) == 1001
    catalogue.close()
