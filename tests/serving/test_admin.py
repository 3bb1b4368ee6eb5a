"""The admin side: items, users, bulk, bundles."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from asterism.core.bundle import Bundle
from asterism.core.errors import ConflictError, ModelError, StorageError, StoreUnavailableError, UnknownIdError
from asterism.serving.deploying import Deployed, Deployer, deployed_bundle
from asterism.serving.grpc.engine_process import SwapNotes
from serving.running import Server, ids, wait_until
from serving.small_market import ITEM_IDS, write_bundle
from unreadable import not_root, open_folder

ADMIN = "/admin/api/v1"
LINES = {"content-type": "application/x-ndjson"}
LAMP = {"item_id": "by/hand ☆", "title": "Zirconium lamp", "categories": ["lamps"], "price": 5.5}


def asked(server: Server, method: str, path: str, body: object = None, code: int = 0) -> Any:
    answer = server.http.request(method, ADMIN + path, json=body).json()
    assert answer["code"] == code, answer
    return answer["data"] if code == 0 else answer["message"]


@pytest.fixture
def lamp(server: Server) -> Iterator[str]:
    """The path of an item made by hand."""
    asked(server, "POST", "/items", LAMP)
    path = f"/items/{quote(str(LAMP['item_id']), safe='')}"
    yield path
    server.http.delete(ADMIN + path)


def test_a_new_item_is_found_and_not_recommended_by_the_model_and_that_is_said(server: Server, lamp: str) -> None:
    made = asked(server, "GET", lamp)
    assert made.items() >= LAMP.items()
    assert (made["recommendable"], made["semantic_id"], made["hidden"]) == (False, None, False)
    found = server.http.get("/api/v1/search", params={"q": "zirconium"}).json()["data"]
    assert ids(found) == [LAMP["item_id"]]
    assert asked(server, "GET", "/items/lamps-00")["recommendable"]
    assert "replace it with PUT" in asked(server, "POST", "/items", LAMP, 20013)


def test_an_item_is_changed_replaced_and_deleted(server: Server, lamp: str) -> None:
    assert asked(server, "PATCH", lamp, {"price": 7, "brand": "Lyra"})["price"] == 7
    assert asked(server, "PATCH", lamp, {"brand": None})["brand"] is None
    kept = asked(server, "GET", lamp)
    assert (kept["title"], kept["categories"], kept["price"]) == ("Zirconium lamp", ["lamps"], 7.0)
    replaced = asked(server, "PUT", lamp, {"title": "Other", "image": "<svg xmlns='http://www.w3.org/2000/svg'/>"})
    assert (replaced["categories"], replaced["price"], replaced["cover"] is None) == ([], None, False)
    assert asked(server, "PUT", lamp, {"title": "Other"})["cover"] is not None, "an image stays until another comes"
    assert asked(server, "DELETE", lamp) == {"item_id": LAMP["item_id"]}
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"price": 1})):
        asked(server, method, lamp, body, 20003)
    assert ids(server.http.get("/api/v1/search", params={"q": "zirconium"}).json()["data"]) == []


def test_a_hidden_item_leaves_every_answer_and_comes_back(server: Server) -> None:
    server.feedback("hider", "tents-01")
    hidden = ids(server.recommend("hider", count=5))[0]
    assert asked(server, "PUT", f"/hidden-items/{hidden}")["hidden"]
    assert hidden not in ids(server.recommend("hider", count=60))
    assert not server.http.get(f"/api/v1/item/{hidden}").json()["data"]["available"]
    assert asked(server, "DELETE", f"/hidden-items/{hidden}")["available"]
    assert hidden in ids(server.recommend("hider", count=60))
    asked(server, "PUT", "/hidden-items/nobody", None, 20003)


def test_items_come_in_pages(server: Server) -> None:
    first = asked(server, "GET", "/items?limit=40")
    second = asked(server, "GET", f"/items?limit=40&after={first['next']}")
    names = [*ids(first), *ids(second)]
    assert names == sorted(names)
    assert (len(names), second["next"]) == (len(set(names)), None)


def test_users_are_made_changed_listed_and_forgotten(server: Server) -> None:
    path = "/users/mira%2F1"
    assert asked(server, "POST", "/users", {"user_id": "mira/1", "attributes": {"age": 3, "vip": True}})["user_id"]
    asked(server, "POST", "/users", {"user_id": "mira/1"}, 20013)
    changed = asked(server, "PATCH", path, {"attributes": {"age": None, "city": "Vega"}})
    assert changed == {"user_id": "mira/1", "attributes": {"vip": True, "city": "Vega"}}
    assert asked(server, "PUT", path, {"attributes": {"x": 1.5}}) == asked(server, "GET", path)
    profile = server.http.get("/api/v1/user/mira%2F1/profile").json()["data"]
    assert (profile["attributes"], profile["events"], profile["recent"]) == ({"x": 1.5}, 0, [])
    assert "mira/1" in [one["user_id"] for one in asked(server, "GET", "/users")["users"]]
    assert asked(server, "DELETE", path)["profile"]
    asked(server, "GET", path, None, 20003)
    asked(server, "PUT", path, {"attributes": {"user_id": "x"}}, 20001)
    asked(server, "PUT", path, {"attributes": {"x": [1]}}, 20001)
    asked(server, "PUT", path, {"attributes": {f"y{number}": 1 for number in range(100)}})
    said = asked(server, "PATCH", path, {"attributes": {"z": 1, "y0": 2}}, 20001)
    assert "would have 101 attributes" in said
    assert len(asked(server, "PATCH", path, {"attributes": {"z": 1, "y0": None}})["attributes"]) == 100


def test_an_integer_is_kept_exactly_or_refused(server: Server) -> None:
    kept = {"small": 2**53, "float": 1e300, "whole": 3.0, "yes": True}
    assert asked(server, "PUT", "/users/exact", {"attributes": kept})["attributes"] == kept
    assert asked(server, "GET", "/users/exact")["attributes"] == kept
    said = asked(server, "PUT", "/users/exact", {"attributes": {"id": 1234567890123456789}}, 20001)
    assert "send it as text" in said
    asked(server, "DELETE", "/users/exact")


def sent(server: Server, kind: str, content: Any, on_error: str = "stop", headers: Any = LINES) -> dict[str, Any]:
    answer = server.http.post(f"{ADMIN}/import/{kind}?on_error={on_error}", content=content, headers=headers)
    return dict(answer.json())


def rows(count: int) -> list[bytes]:
    return [json.dumps({"item_id": f"bulk-{n:04}", "title": f"Bulk {n}"}).encode() + b"\n" for n in range(count)]


def test_what_is_imported_in_pieces_is_exported_again(server: Server) -> None:
    text = b"".join(rows(120))
    pieces = (text[start : start + 37] for start in range(0, len(text), 37))
    answer = sent(server, "items", pieces)
    assert answer["data"] == {"imported": 120, "refused": 0, "lines": []}
    exported = server.http.get(f"{ADMIN}/export/items")
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert [one["item_id"] for one in lines if one["item_id"].startswith("bulk-")] == [
        f"bulk-{n:04}" for n in range(120)
    ]
    assert sent(server, "items", exported.content)["data"]["imported"] == len(lines)
    for n in range(120):
        server.http.delete(f"{ADMIN}/items/bulk-{n:04}")


def test_users_go_in_and_out_as_lines(server: Server) -> None:
    assert sent(server, "users", b'{"user_id": "line-1", "city": "Vega"}\n\n')["data"]["imported"] == 1
    assert b'{"user_id": "line-1", "city": "Vega"}\n' in server.http.get(f"{ADMIN}/export/users").content
    asked(server, "DELETE", "/users/line-1")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[1]", "it is no JSON object"),
        (b'{"item_id": "x", "title": "y", "price": NaN}', "NaN is no number"),
        (b'{"item_id": "x", "title": "y", "price": "1"}', "field `price`"),
        (b'{"item_id": "\\ud800", "title": "y"}', "no database keeps"),
        (b'{"item_id": "a\\u0000", "title": "y"}', "no database keeps"),
        (b'{"item_id": "x", "title": "y", "created_at": 99999999999999999999}', "larger than a number may be"),
        (b'{"item_id": "x", "title": "y", "\\ud800": 1}', "no database keeps"),
        (b'{"item_id": "\xff", "title": "y"}', "it is no JSON"),
        (b'{"item_id": "x", "title": "y", "price": 1e999}', "no finite number"),
        (b'{"item_id": "x", "title": "y", "price": -5}', "no price"),
        (b'{"item_id": "%s", "title": "y"}' % (b"x" * 257), "257 characters"),
        (b'{"item_id": "x", "title": "y", "categories": ["a", ""]}', "empty or no text"),
        (b'{"item_id": "x", "title": "y", "image": "cover.png"}', "no SVG text"),
    ],
)
def test_a_bad_line_is_named_and_those_before_it_are_kept(server: Server, line: bytes, reason: str) -> None:
    body = b'{"item_id": "kept", "title": "Kept"}\n' + line + b'\n{"item_id": "after", "title": "After"}\n'
    answer = sent(server, "items", body)
    assert answer["code"] == 20002
    assert "items:2" in answer["message"]
    assert reason in answer["message"]
    asked(server, "DELETE", "/items/kept")
    asked(server, "GET", "/items/after", None, 20003)
    answer = sent(server, "items", body, "skip")
    assert (answer["data"]["imported"], answer["data"]["refused"]) == (2, 1)
    assert (answer["data"]["lines"][0]["line"], reason in answer["data"]["lines"][0]["reason"]) == (2, True)
    asked(server, "DELETE", "/items/kept")
    asked(server, "DELETE", "/items/after")


@pytest.mark.parametrize("line", [b'{"user_id": "%s"}' % (b"x" * 257), b'{"user_id": "x", "size": 1e999}'])
def test_a_user_whom_no_request_or_export_could_name_is_refused(server: Server, line: bytes) -> None:
    assert sent(server, "users", line)["code"] == 20002
    exported = server.http.get(f"{ADMIN}/export/users").content
    assert sent(server, "users", exported)["code"] == 0, "what is exported can be imported"


def test_a_giant_line_and_another_type_are_refused(server: Server) -> None:
    body = b'{"item_id": "kept", "title": "Kept"}\n\n' + b"x" * ((1 << 20) + 2) + b'\n{"item_id": "x", "title": "y"}'
    giant = sent(server, "items", body, "skip")
    assert (giant["code"], "line 3 is larger" in giant["message"]) == (20006, True)
    asked(server, "DELETE", "/items/kept")
    asked(server, "GET", "/items/x", None, 20003)
    other = sent(server, "items", b"{}", headers={"content-type": "application/json"})
    assert "application/x-ndjson" in other["message"]
    assert sent(server, "items", b"", on_error="perhaps")["code"] == 20001
    assert sent(server, "items", b"")["data"] == {"imported": 0, "refused": 0, "lines": []}


def test_the_dashboard_counts(server: Server) -> None:
    before = asked(server, "GET", "/dashboard")
    asked(server, "POST", "/items", {"item_id": "counted", "title": "Counted", "available": False})
    after = asked(server, "GET", "/dashboard")
    asked(server, "DELETE", "/items/counted")
    assert after["items"]["total"] == before["items"]["total"] + 1
    assert after["items"]["unavailable"] == before["items"]["unavailable"] + 1
    assert after["engine"]["ready"]


def deploy(server: Server, body: object, path: str = "deploy") -> httpx.Response:
    return server.http.post(f"{ADMIN}/model/{path}", json=body, timeout=120)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../secret", 20001),
        ("..", 20001),
        ("/etc", 20001),
        ("a/b", 20001),
        ("a\x00b", 20001),
        ("%2e%2e", 20001),
        (".hidden", 20001),
        ("", 20001),
        ("none", 20003),
        ("linked", 20003),
        ("broken", 30001),
    ],
)
def test_only_bundles_of_one_folder_can_be_deployed(server: Server, name: str, code: int, market: Path) -> None:
    elsewhere = market.parent / f"elsewhere-{market.name}"
    if not elsewhere.exists():
        write_bundle(elsewhere)
        (market / "linked").symlink_to(elsewhere)
        shutil.copytree(elsewhere, market / "broken")
        (market / "broken" / "items.parquet").write_bytes(b"junk")
    answer = deploy(server, {"bundle": name}).json()
    assert answer["code"] == code, answer
    status = asked(server, "GET", "/model")
    assert (status["name"], status["bundles"]) == ("bundle", ["broken", "bundle"]), "what can be deployed, and no more"


def test_a_bundle_is_deployed_kept_over_a_restart_and_rolled_back(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "bundles" / "old")
    new = write_bundle(tmp_path / "bundles" / "new", brand="Lyra")
    assert old.version != new.version
    with Server(old.path, tmp_path / "state") as server:
        assert deploy(server, None, "rollback").json()["code"] == 20013
        status = asked(server, "GET", "/model")
        assert (status["name"], status["bundles"], status["previous"]) == ("old", ["new", "old"], None)
        told = deploy(server, {"bundle": "new"}).json()["data"]
        assert (told["version"], told["previous"], told["restart_needed"]) == (new.version, "old", True)
        assert server.recommend("u1")["bundle_version"] == new.version
    with Server(old.path, tmp_path / "state") as server:
        assert server.recommend("u1")["bundle_version"] == new.version
        assert deploy(server, None, "rollback").json()["data"]["version"] == old.version
        wait_until(lambda: server.recommend("u1")["bundle_version"] == old.version)


def test_a_deployed_catalogue_filters_explains_and_has_neighbours_at_once(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "bundles" / "old")
    write_bundle(tmp_path / "bundles" / "new", more="lyres-00")
    lyres: dict[str, Any] = {"filters": {"categories": ["lyres"]}, "explain": True}
    with Server(old.path, tmp_path / "state") as server:
        before = server.recommend("u1")
        server.http.post("/api/v1/feedback", json={"user_id": "u1", "item_id": ITEM_IDS[-1], "action": "click"})
        assert server.http.post("/api/v1/recommend", json={"user_id": "u1", **lyres}).json()["code"] == 20001
        assert server.http.get("/api/v1/similar/lyres-00").json()["code"] == 20003
        asked(server, "POST", "/model/deploy", {"bundle": "new"})
        wait_until(lambda: server.recommend("u1")["bundle_version"] != before["bundle_version"])
        (found,) = server.recommend("u1", **lyres)["items"]
        assert (found["item_id"], found["because"]["item_id"]) == ("lyres-00", ITEM_IDS[-1])
        assert ids(server.http.get("/api/v1/similar/lyres-00").json()["data"])[0] == ITEM_IDS[-1]
        near = server.http.get("/api/v1/search", params={"q": "newer"}).json()["data"]
        assert (near["vectors"], ids(near)[:2]) == ("hits", ["lyres-00", ITEM_IDS[-1]])
        asked(server, "POST", "/model/rollback")
        wait_until(lambda: server.recommend("u1")["bundle_version"] == before["bundle_version"])
        assert server.http.get("/api/v1/similar/lyres-00").json()["code"] == 20003


def test_what_was_deployed_holds_for_the_bundle_it_was_deployed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = write_bundle(tmp_path / "old").path, write_bundle(tmp_path / "new", brand="Lyra").path
    record = Deployed(str(old.resolve()), str(new.resolve()), str(old.resolve()))
    assert deployed_bundle(tmp_path, old) == old
    (tmp_path / "deployed.json").write_text(json.dumps({name: getattr(record, name) for name in record.__slots__}))
    assert deployed_bundle(tmp_path, old) == new
    assert deployed_bundle(tmp_path, new) == new, "another one that is asked for is served"
    shutil.rmtree(new)
    assert deployed_bundle(tmp_path, old) == old
    assert "is gone" in caplog.text
    Bundle.open(old)


def test_an_engine_with_a_folder_of_its_own_starts_again_with_what_was_deployed(tmp_path: Path) -> None:
    old, new = (write_bundle(tmp_path / name, brand=brand) for name, brand in (("old", None), ("new", "Lyra")))
    state = tmp_path / "engine-state"
    state.mkdir()
    notes = SwapNotes(state, old.path, old)
    assert deployed_bundle(state, old.path) == old.path
    notes(new)
    assert deployed_bundle(state, old.path) == new.path.resolve()
    notes(old)  # a rollback, or a deploy that another engine could not follow
    assert deployed_bundle(state, old.path) == old.path.resolve()
    in_the_way = state / "deployed.json.writing"
    in_the_way.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        notes(new)
    in_the_way.rmdir()
    notes(new)  # deployed again, since a disk was full
    written = json.loads((state / "deployed.json").read_text())
    assert (written["current"], written["previous"]) == (str(new.path.resolve()), str(old.path.resolve()))
    SwapNotes(None, old.path, old)(new)  # nothing to write into


def test_a_bundle_trained_anew_in_its_folder_leaves_no_way_back(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "a", brand="a")
    engine, catalogue = RefusingEngine(SwapNotes(None, first.path, first), first), DownCatalogue()
    deployer = Deployer(first, engine, catalogue, tmp_path / "state")  # type: ignore[arg-type]
    anew = write_bundle(tmp_path / "a", brand="anew")
    told = asyncio.run(deployer.deploy("a"))
    assert (told.version, told.previous, engine.served.version) == (anew.version, None, anew.version)
    with pytest.raises(ConflictError, match="was replaced in its own folder, so what was served before is gone"):
        asyncio.run(deployer.rollback())


def test_what_could_not_be_written_down_is_when_it_is_deployed_again(tmp_path: Path) -> None:
    first, second = (write_bundle(tmp_path / name, brand=name) for name in ("a", "b"))
    state = tmp_path / "state"
    in_the_way = state / "deployed.json.writing"
    in_the_way.mkdir(parents=True)
    engine, catalogue = RefusingEngine(SwapNotes(None, first.path, first), first), DownCatalogue()
    deployer = Deployer(first, engine, catalogue, state)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=r"cannot be written \(.*\); the bundle is served until a restart"):
        asyncio.run(deployer.deploy("b"))
    in_the_way.rmdir()
    assert asyncio.run(deployer.deploy("b")).version == second.version
    assert (deployed_bundle(state, first.path), catalogue.synced) == (second.path.resolve(), [second.version] * 2)


def test_folders_that_may_not_be_entered_are_no_bundles(tmp_path: Path) -> None:
    with open_folder() as folder:
        served = write_bundle(folder / "bundles" / "a")
        (folder / "bundles" / "lost+found").mkdir(mode=0o000)
        (folder / "bundles" / "theirs").mkdir(mode=0o000)
        engine, catalogue = RefusingEngine(SwapNotes(None, served.path, served), served), DownCatalogue()
        deployer = Deployer(served, engine, catalogue, tmp_path)  # type: ignore[arg-type]
        with not_root():
            assert deployer.status().bundles == ["a"]
            with pytest.raises(UnknownIdError, match="there is no bundle 'theirs'"):
                asyncio.run(deployer.deploy("theirs"))
        shutil.rmtree(folder / "bundles")
        assert deployer.status().bundles == []


class RefusingEngine:
    """Swaps as an engine in the same folder does, and then refuses; or does as it is told."""

    def __init__(self, notes: SwapNotes, served: Bundle) -> None:
        self.notes, self.served, self.refuses = notes, served, False

    async def swap(self, bundle: Bundle) -> None:
        self.notes(bundle)
        if self.refuses:
            self.notes(self.served)
            raise ModelError("another engine cannot")
        self.served = bundle


class DownCatalogue:
    """A catalogue whose store is down when it is told so."""

    def __init__(self) -> None:
        self.is_down = False
        self.synced: list[str] = []

    def sync(self, items: object, images: object, version: str) -> None:
        if self.is_down:
            raise StoreUnavailableError("the catalogue is down")
        self.synced.append(version)


def test_a_refused_deploy_and_a_store_that_is_down_leave_the_way_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = (write_bundle(tmp_path / name, brand=name) for name in ("a", "b", "c"))
    state = tmp_path / "not" / "there yet"
    engine, catalogue = RefusingEngine(SwapNotes(state, first.path, first), first), DownCatalogue()
    deployer = Deployer(first, engine, catalogue, state)  # type: ignore[arg-type]

    def previous() -> str | None:
        return Deployer(deployer.bundle, engine, catalogue, state).status().previous  # type: ignore[arg-type]

    async def work() -> None:
        await deployer.deploy("b")
        engine.refuses = True
        with pytest.raises(ModelError, match="another engine cannot"):
            await deployer.deploy("c")
        assert (deployer.bundle.version, deployer.status().previous, previous()) == (second.version, "a", "a")
        engine.refuses, catalogue.is_down = False, True
        assert (await deployer.deploy("c")).version == third.version
        assert "its items are not in the catalogue yet" in caplog.text
        engine.served = second  # as one that was started again with a bundle of its own
        with pytest.raises(StoreUnavailableError):
            await deployer.deploy("c")
        assert engine.served.version == third.version, "it is put right, whatever the catalogue says"
        catalogue.is_down = False
        assert (await deployer.deploy("c")).previous == "b", "again, for the catalogue's sake alone"
        assert catalogue.synced == [second.version, third.version]
        assert (await deployer.rollback()).version == second.version

    asyncio.run(work())
