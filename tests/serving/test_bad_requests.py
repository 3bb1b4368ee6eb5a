"""Whatever is sent, the answer is the envelope, with a code of the table and a sentence."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from asterism.core.errors import AsterismError
from asterism.serving.grpc.conversation import EngineLostError
from asterism.serving.http.errors import STATUS_OF_CODE, SUCCESS
from asterism.serving.http.middleware.bodies import MAX_BODY_BYTES, BodyLimits
from asterism.serving.http.middleware.frame import RequestFrame
from asterism.serving.http.middleware.security_headers import SECURITY_HEADERS
from serving.running import Server, wait_until

JSON = {"content-type": "application/json"}


def check_envelope(answer: httpx.Response) -> dict[str, Any]:
    body = dict(answer.json())
    assert set(body) == {"code", "message", "data", "trace_id"}
    assert answer.status_code == STATUS_OF_CODE[body["code"]]
    assert re.fullmatch(r"[0-9a-f]{32}", body["trace_id"])
    assert answer.headers["x-trace-id"] == body["trace_id"]
    for name in SECURITY_HEADERS:
        assert name in answer.headers
    return body


@pytest.mark.parametrize(
    ("path", "content", "code", "sentence"),
    [
        ("recommend", b"{", 20001, "not valid JSON"),
        ("recommend", b"", 20001, "must be a JSON object"),
        ("recommend", b"[]", 20001, "must be a JSON object"),
        ("recommend", b'"text"', 20001, "must be a JSON object"),
        ("recommend", b'{"user_id": "\xff"}', 20001, "UTF-8"),
        ("recommend", b"[" * 100_000, 20012, "nested deeper than 32 levels"),
        ("recommend", b'{"user_id": 7}', 20001, "`user_id`: should be a valid string"),
        ("recommend", b'{"user_id": ""}', 20001, "`user_id`"),
        ("recommend", b'{"user_id": "\\ud800"}', 20001, "`user_id`"),
        ("recommend", b'{"count": 0}', 20001, "`count`: should be greater than or equal to 1"),
        ("recommend", b'{"count": 101}', 20001, "`count`: should be less than or equal to 100"),
        ("recommend", b'{"count": "10"}', 20001, "`count`: should be a valid integer"),
        ("recommend", b'{"count": 1e999}', 20001, "`count`"),
        ("recommend", b'{"cuont": 10}', 20001, "`cuont` is not a field"),
        ("recommend", b'{"exclude": "a"}', 20001, "`exclude`"),
        ("feedback", b"{}", 20001, "give either one event with `item_id`, or `events`"),
        ("feedback", b'{"item_id": "lamps-00"}', 20001, "needs a `user_id` or a `session_id`"),
        (
            "feedback",
            b'{"user_id": "u", "item_id": "lamps-00", "action": "stare"}',
            20001,
            "`action`: should be 'impress",
        ),
        (
            "feedback",
            b'{"events": [{"user_id": "u", "item_id": "lamps-00"}, {"item_id": "lamps-00"}]}',
            20001,
            "`events.1` needs",
        ),
        ("feedback", b'{"user_id": "u", "item_id": "lamps-00", "timestamp": -1}', 20001, "`timestamp`"),
        ("feedback", b'{"user_id": "u", "item_id": "lamps-00", "timestamp": 1790000000000}', 20001, "not milliseconds"),
        ("feedback", b'{"user_id": "u", "item_id": "lamps-00", "value": NaN}', 20001, "`value`"),
        ("feedback", b'{"user_id": "u", "item_id": "none"}', 20003, "item 'none' is not in the catalogue"),
        ("feedback", b'{"events": []}', 20001, "`events`"),
        ("feedback", b'{"events": [{"user_id": "u"}]}', 20001, "`events.0.item_id` is missing"),
        ("feedback", b'{"user_id": "u", "events": [{"item_id": "lamps-00"}]}', 20001, "beside `events`"),
    ],
)
def test_a_bad_body_is_explained(server: Server, path: str, content: bytes, code: int, sentence: str) -> None:
    body = check_envelope(server.http.post(f"/api/v1/{path}", content=content, headers=JSON))
    assert body["code"] == code
    assert sentence in body["message"]


def test_a_body_that_is_not_sent_as_json_is_explained(server: Server) -> None:
    answer = server.http.post("/api/v1/recommend", content=b'{"count": 3}', headers={"content-type": "text/plain"})
    assert "content-type application/json" in check_envelope(answer)["message"]


def test_a_giant_body_is_refused_with_and_without_a_stated_length(server: Server) -> None:
    giant = b'{"user_id": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert check_envelope(server.http.post("/api/v1/recommend", content=giant, headers=JSON))["code"] == 20006
    chunks = (giant[start : start + 65536] for start in range(0, len(giant), 65536))
    assert check_envelope(server.http.post("/api/v1/recommend", content=chunks, headers=JSON))["code"] == 20006


def test_a_body_that_trickles_in_is_refused() -> None:
    said: list[Message] = []

    async def reached(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("a request without its body must not get this far")

    async def trickle() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def hear(message: Message) -> None:
        said.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(asyncio.wait_for(RequestFrame(BodyLimits(reached, timeout_seconds=0.1))(scope, trickle, hear), 60))
    start, body = said
    assert (start["status"], json.loads(body["body"])["code"]) == (408, 20007)
    assert (b"connection", b"close") in start["headers"]


def test_who_waits_longer_than_a_gateway_that_stops_is_told_to_ask_again() -> None:
    said: list[Message] = []

    async def main() -> None:
        began = asyncio.Event()

        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            began.set()
            await asyncio.Event().wait()

        async def hear(message: Message) -> None:
            said.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
        answering = asyncio.create_task(RequestFrame(waits)(scope, asyncio.Event().wait, hear))  # type: ignore[arg-type]
        await began.wait()
        answering.cancel()  # as the server does with what is under way after its last ten seconds
        await answering

    asyncio.run(main())
    start, body = said
    assert (start["status"], json.loads(body["body"])["code"]) == (503, 10004)
    assert (b"retry-after", b"1") in start["headers"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/api/v1/item/lamps-00"])
def test_head_is_get_without_its_body(server: Server, path: str) -> None:
    asked = server.http.head(path)
    assert (asked.status_code, asked.content) == (200, b"")

    def are_alike() -> bool:  # but for what the gateway hears of its engine in between
        asked, told = server.http.head(path), server.http.get(path)
        return bool(asked.headers["content-length"] == told.headers["content-length"])

    wait_until(are_alike, 20)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nowhere", 20004),
        ("GET", "/api/v1/nowhere", 20004),
        ("GET", "/assets/nowhere.js", 20004),
        ("GET", "/assets/../../../../pyproject.toml", 20004),
        ("GET", "/assets/%2e%2e/app.py", 20004),
        ("GET", "/api/v1/recommend", 20005),
        ("DELETE", "/api/v1/item/lamps-00", 20005),
        ("GET", "/api/v1/item", 20004),
        ("GET", "/assets", 20004),
        ("GET", "/api/v1/item/none", 20003),
        ("GET", "/api/v1/item/a%2Fb%20c", 20003),
        ("GET", "/api/v1/item/%ff", 20003),
        ("GET", "/api/v1/similar/none", 20003),
        ("GET", "/api/v1/similar/lamps-00?count=0", 20001),
        ("GET", "/api/v1/similar/lamps-00?count=x", 20001),
        ("GET", "/api/v1/user/stranger/profile", 20003),
        ("GET", "/api/v1/users/sample?limit=1000", 20001),
        ("GET", "/api/v1/item/" + "x" * 300, 20001),
    ],
)
def test_other_bad_requests_are_in_the_envelope_too(server: Server, method: str, path: str, code: int) -> None:
    assert check_envelope(server.http.request(method, path))["code"] == code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["user_id", "session_id", "count", "scene", "exclude", "explain", "item_id", "action", "event_id", "timestamp",
     "value", "events", "attribution_id", "context", "filters", "boosts", "cursor", "requests"]
)  # fmt: skip


@given(
    body=json_values | st.dictionaries(fields, json_values, max_size=6),
    path=st.sampled_from(["recommend", "recommend/batch", "feedback"]),
)
@settings(max_examples=150)
def test_no_json_leads_to_a_bare_error(server: Server, body: object, path: str) -> None:
    content = json.dumps(body).encode()
    answer = server.http.post(f"/api/v1/{path}", content=content, headers=JSON)
    assert check_envelope(answer)["code"] in {SUCCESS, 20001, 20003, 20008}


@given(content=st.binary(max_size=60))
@settings(max_examples=60)
def test_no_bytes_lead_to_a_bare_error(server: Server, content: bytes) -> None:
    assert check_envelope(server.http.post("/api/v1/recommend", content=content, headers=JSON))["code"] == 20001


@given(item_id=st.text(min_size=1, max_size=30))
@settings(max_examples=60)
def test_no_item_id_leads_to_a_bare_error(server: Server, item_id: str) -> None:
    path = quote(item_id.encode("utf-8", "surrogatepass"), safe="")
    answer = server.http.get(f"/api/v1/item/{path}")
    assert check_envelope(answer)["code"] in {20001, 20003, 20004}


def all_errors(kind: type[AsterismError] = AsterismError) -> set[type[AsterismError]]:
    return {kind}.union(*(all_errors(one) for one in kind.__subclasses__()))


def test_every_error_has_a_code_of_its_own_and_a_status() -> None:
    ours = {one for one in all_errors() if one.__module__.startswith("asterism.")}
    assert EngineLostError in ours, "whose module nobody else has to import for this"
    codes = [one.code for one in ours]
    assert len(codes) == len(set(codes))
    assert {SUCCESS, *codes} == set(STATUS_OF_CODE)


def test_the_documented_table_is_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d{3}) \| `?(\w+)`? \|", text, re.MULTILINE)
    assert {int(code): int(status) for code, status, _ in rows} == dict(STATUS_OF_CODE)
    names = {one.code: one.__name__ for one in all_errors() if one.__module__.startswith("asterism.")}
    assert {int(code): name for code, _, name in rows} == {**names, SUCCESS: "success"}


def test_an_id_may_hold_slashes_and_line_ends(server: Server) -> None:
    for user_id in ("a/b\r\nc", "line\n", "x/profile/profile"):
        path = f"/api/v1/user/{quote(user_id, safe='')}/profile"
        assert check_envelope(server.http.get(path))["code"] == 20003
        server.feedback(user_id, "lamps-00")
        assert server.http.get(path).json()["data"]["user_id"] == user_id
        assert server.http.delete(f"/admin/api/v1/users/{quote(user_id, safe='')}").json()["data"]["events"] == 1
        assert check_envelope(server.http.get(path))["code"] == 20003


def test_an_item_whose_id_ends_in_cover_is_told_from_the_cover_of_another(server: Server) -> None:
    items, kept = "/admin/api/v1/items", {"lone": "<svg>1</svg>", "lone/cover": "<svg>2</svg>"}
    try:
        for item_id, image in kept.items():
            assert server.http.post(items, json={"item_id": item_id, "title": item_id, "image": image}).is_success
        for item_id, image in kept.items():
            card = server.http.get(f"/api/v1/item/{quote(item_id, safe='')}").json()["data"]
            assert card["item_id"] == item_id
            assert server.http.get(card["cover"]).text == image
        for path in ("lone/cover", "lone/c%6Fver"):
            assert server.http.get(f"/api/v1/item/{path}").text == kept["lone"]
        assert check_envelope(server.http.get("/api/v1/item/nobody%2Fcover"))["message"].count("nobody/cover") == 1
        assert server.http.head("/api/v1/item/lone%2fcover").headers["content-type"] == "application/json"
    finally:
        for item_id in kept:
            server.http.delete(f"{items}/{quote(item_id, safe='')}")


def test_a_profile_alone_is_not_deleted(server: Server) -> None:
    answer = server.http.delete("/api/v1/user/u39/profile")
    assert (check_envelope(answer)["code"], answer.headers["allow"]) == (20005, "GET")
    assert server.http.get("/api/v1/user/u39/profile").json()["code"] == 0
