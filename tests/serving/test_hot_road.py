"""The short way answers as the long way does, byte for byte of what both say, and knows when it must give way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import pytest
from starlette.types import ASGIApp

from asterism.core.errors import StorageError
from asterism.serving.http import answers
from asterism.serving.http.app import build_api, build_app
from asterism.serving.http.gate import Gate
from asterism.serving.http.hot import road
from asterism.serving.http.hot.card_shelf import CardShelf
from asterism.serving.service import Service, ServiceSettings, open_service
from serving.running import ENGINE, environment
from serving.small_market import ITEM_IDS, write_bundle

FRESH = {"attribution_id", "latency_ms", "cached"}


class Ways(NamedTuple):
    """Both ways into one service."""

    service: Service
    short: httpx.AsyncClient
    long: httpx.AsyncClient


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, runner: asyncio.Runner) -> Iterator[Ways]:
    folder = tmp_path_factory.mktemp("ways")
    with pytest.MonkeyPatch.context() as patch:  # the engine's process imports the small market too
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        yield from _both_ways(folder, runner)


def _both_ways(folder: Path, runner: asyncio.Runner) -> Iterator[Ways]:
    write_bundle(folder / "bundle")
    service = open_service(ServiceSettings(folder / "bundle", folder / "state", ENGINE, deadline_seconds=30.0))
    short = build_app(service)
    long = Gate().around(build_api(service))

    async def start() -> Ways:
        service.start()
        await service.engine.wait_ready()
        return Ways(service, client_of(short), client_of(long))

    found = runner.run(start())
    yield found
    runner.run(service.stop())


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url="http://test")


async def ask(client: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post(f"/api/v1/{path}", content=content, headers={"content-type": "application/json"})


def comparable(answer: httpx.Response) -> Any:
    body = answer.json()
    body.pop("trace_id")
    if body["data"] is not None:
        body["data"] = {name: value for name, value in body["data"].items() if name not in FRESH}
    headers = {name for name in answer.headers if name != "content-length"}
    return answer.status_code, headers, body


REQUESTS: list[Any] = [
    {},
    {"user_id": "u1"},
    {"user_id": "u1", "count": 3, "scene": "home", "explain": True},
    {"user_id": "u2", "count": 100},
    {"user_id": "u2", "filters": {"categories": ["books"], "max_price": 60}},
    {"user_id": "u2", "boosts": [{"items": ["mugs-02"], "factor": 9}], "exclude": ["mugs-03"]},
    {"session_id": "nobody yet"},
    {"exclude": ITEM_IDS},
    {"filters": {"categories": ["boosk"]}},
    {"cursor": "forged"},
    {"count": 0},
    {"user_id": "\ud800"},
    b"{",
    b"",
    b"[" * 3000,
]


@pytest.mark.parametrize("body", REQUESTS)
def test_both_ways_answer_the_same(ways: Ways, runner: asyncio.Runner, body: Any) -> None:
    async def both() -> list[httpx.Response]:
        return [await ask(client, "recommend", body) for client in (ways.short, ways.long, ways.short)]

    short, long, again = runner.run(both())
    assert comparable(short) == comparable(long) == comparable(again)
    if short.status_code == 200:
        for one in (short, long, again):
            answers.Envelope[answers.RecommendData].model_validate_json(one.content, strict=True, extra="forbid")


FEEDBACK: list[Any] = [
    {"user_id": "f", "item_id": "mugs-01", "event_id": "one"},
    {"user_id": "f", "item_id": "none"},
    {"item_id": "mugs-01", "event_id": "of nobody"},
    {"events": [{"user_id": "f", "item_id": "mugs-02", "event_id": f"many-{n}"} for n in range(3)]},
    {"events": []},
    {"user_id": "f", "item_id": "mugs-01", "event_id": "future", "timestamp": 1_790_000_000_000},
]


@pytest.mark.parametrize("body", FEEDBACK)
def test_both_ways_take_feedback_the_same(ways: Ways, runner: asyncio.Runner, body: Any) -> None:
    async def both() -> list[httpx.Response]:
        await ask(ways.short, "feedback", body)  # so that both find its ids known
        return [await ask(client, "feedback", body) for client in (ways.short, ways.long)]

    short, long = runner.run(both())
    assert comparable(short) == comparable(long)


def test_well_formed_requests_do_take_the_short_way(
    ways: Ways, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nowhere(*_: object) -> None:
        raise AssertionError("the long way was taken")

    alone = road.HotRoad(nowhere, ways.service)

    async def story() -> None:
        client = client_of(Gate().around(alone))
        assert (await ask(client, "recommend", {"user_id": "u1"})).status_code == 200
        assert (await ask(client, "feedback", {"user_id": "g", "item_id": "mugs-01"})).status_code == 200
        assert (await ask(client, "recommend", {"cursor": "forged"})).json()["code"] == 20008
        for path, body in (("recommend", b"{"), ("recommend/batch", {"requests": [{}]}), ("feedback", {})):
            assert (await ask(client, path, body)).json()["code"] == 10000, "the long way was taken"

    runner.run(story())


def test_a_body_in_pieces_and_one_of_another_type_are_read_as_ever(ways: Ways, runner: asyncio.Runner) -> None:
    async def pieces() -> Any:
        for piece in (b'{"user_id"', b': "u1", ', b'"count": 2}'):
            yield piece

    async def story() -> None:
        headers = {"content-type": "application/json"}
        whole = await ways.short.post("/api/v1/recommend", content=pieces(), headers=headers)
        assert len(whole.json()["data"]["items"]) == 2
        typed = await ways.short.post(
            "/api/v1/recommend", content=b'{"count": 2}', headers={"content-type": "application/json; charset=utf-8"}
        )
        assert len(typed.json()["data"]["items"]) == 2
        odd = await ways.short.post("/api/v1/recommend", content=b"{}", headers={"content-type": "text/plain"})
        assert "content-type application/json" in odd.json()["message"]

    runner.run(story())


def test_a_card_shows_the_item_as_the_catalogue_has_it_now(ways: Ways, runner: asyncio.Runner) -> None:
    catalogue = ways.service.catalogue

    async def story() -> None:
        before = (await ask(ways.short, "recommend", {"user_id": "u9"})).json()["data"]["items"]
        item = catalogue.get(before[0]["item_id"])
        catalogue.upsert([replace(item, title="Another title", price=1.5)])
        answer = (await ask(ways.short, "recommend", {"user_id": "u9"})).json()["data"]
        first = answer["items"][0]
        assert (first["title"], first["price"], first["item_id"]) == ("Another title", 1.5, item.item_id)
        assert answer["cached"]
        catalogue.set_hidden(item.item_id, True)
        hidden = (await ask(ways.short, "recommend", {"user_id": "u9"})).json()["data"]["items"]
        assert [one["item_id"] for one in hidden[:9]] == [one["item_id"] for one in before[1:]]
        catalogue.set_hidden(item.item_id, False)
        catalogue.upsert([item])
        again = (await ask(ways.short, "recommend", {"user_id": "u9"})).json()["data"]["items"]
        assert again == before

    runner.run(story())


class Failing:
    """A catalogue that can be told to fail."""

    def __init__(self, catalogue: Any) -> None:
        self._catalogue = catalogue
        self.fails = False
        self.asked = 0

    def unavailable(self) -> frozenset[str]:
        return cast("frozenset[str]", self._catalogue.unavailable())

    def many(self, item_ids: Any) -> Any:
        self.asked += 1
        if self.fails:
            raise StorageError("the disk is gone")
        return self._catalogue.many(item_ids)


def test_cards_outlive_the_catalogue_and_what_was_never_read_is_shown_by_its_id(
    ways: Ways, runner: asyncio.Runner
) -> None:
    catalogue = Failing(ways.service.catalogue)
    shelf = CardShelf(cast(Any, catalogue), lambda _: (1, 2))

    async def story() -> None:
        known = await shelf.take(["mugs-01"])
        catalogue.fails = True
        assert await shelf.take(["mugs-01"]) == known
        ways.service.catalogue.set_hidden("books-01", True)  # a change: all cards are read anew
        found = await shelf.take(["mugs-01", "mugs-02", "no such item"])
        ways.service.catalogue.set_hidden("books-01", False)
        assert found["mugs-01"] == known["mugs-01"]
        assert json.loads(found["mugs-02"].start + b"}")["title"] == "mugs-02"
        assert [one.is_known for one in found.values()] == [True, False, False]
        catalogue.fails = False
        found = await shelf.take(["mugs-02", "no such item"])
        assert list(found) == ["mugs-02"], "the catalogue says that there is no such item"
        assert found["mugs-02"].item.title == "A star among mugs, no. 02"

    runner.run(story())


def test_cards_are_read_once_and_bounded_and_follow_semantic_ids(ways: Ways, runner: asyncio.Runner) -> None:
    catalogue = Failing(ways.service.catalogue)
    codes: dict[str, tuple[int, ...]] = {}
    shelf = CardShelf(cast(Any, catalogue), codes.get, most=2)

    async def story() -> None:
        for _ in range(3):
            await shelf.take(["mugs-01", "mugs-02"])
        assert catalogue.asked == 1
        codes["mugs-01"] = (4, 5)
        assert json.loads((await shelf.take(["mugs-01"]))["mugs-01"].start + b"}")["semantic_id"] == [4, 5]
        assert catalogue.asked == 1, "what is shown anew is not read anew"
        await shelf.take(["mugs-03"])
        await shelf.take(["mugs-02", "mugs-03"])
        assert catalogue.asked == 2
        await shelf.take(["mugs-01"])
        assert catalogue.asked == 3, "of two that are kept, it was the oldest"

    runner.run(story())


def test_after_a_change_cards_are_read_anew_many_at_once(ways: Ways, runner: asyncio.Runner) -> None:
    catalogue = Failing(ways.service.catalogue)
    shelf = CardShelf(cast(Any, catalogue), lambda _: None)

    async def story() -> None:
        shown = ITEM_IDS[:50]
        for one in shown:
            await shelf.take([one])
        before = catalogue.asked
        ways.service.catalogue.set_hidden("books-02", True)
        ways.service.catalogue.set_hidden("books-02", False)
        for one in shown:
            assert json.loads((await shelf.take([one]))[one].start + b"}")["item_id"] == one
        assert (before, catalogue.asked) == (50, 51)
        fresh = CardShelf(cast(Any, catalogue), lambda _: None, expected=ITEM_IDS)
        assert list(await fresh.take(["mugs-01"])) == ["mugs-01"]
        assert len(await fresh.take(ITEM_IDS)) == len(ITEM_IDS)
        assert catalogue.asked == 52

    runner.run(story())
