"""Bodies and names that mean harm, at every route: refused in the envelope, with a code of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from serving.running import Server
from serving.test_bad_requests import JSON, check_envelope

DEEP = b'{"a":' * 40 + b"1" + b"}" * 40
GIANT = b'{"title": "' + b"x" * (1 << 20) + b'"}'
BODIES = {
    "broken": (b'{"title": ', {20001}),
    "cut off": (b'{"title": "\\u12', {20001}),
    "two values": (b"{}{}", {20001}),
    "deep": (DEEP, {20012}),
    "deep and broken": (b"[" * 100_000, {20012}),
    "giant": (GIANT, {20006}),
    "utf-16": ('{"nothing": "x"}'.encode("utf-16"), {20001}),
    "bom": (b"\xef\xbb\xbf[]", {20001}),
    "bytes": (bytes(range(256)), {20001, 20012}),
    "surrogate": (b'{"\\ud800": "\\udfff"}', {20001}),
    "zero": (b'{"user_id\\u0000": "\\u0000"}', {20001}),
    "prototype": (b'{"__proto__": {"admin": true}, "constructor": 1}', {20001}),
    "operators": (b'{"user_id": {"$gt": ""}, "item_id": {"$ne": null}, "bundle": {"$where": "1"}}', {20001}),
    "huge number": (b'{"count": 1' + b"0" * 5000 + b"}", {20001}),
    "list": (b"[]", {20001}),
    "null": (b"null", {20001}),
    "nothing": (b"", {20001}),
}
NAMES = [
    "' OR '1'='1",
    "'; DROP TABLE items; --",
    '" UNION SELECT digest FROM api_keys --',
    "%' AND 1=(SELECT 1) --",
    '{"$gt": ""}',
    "$where: sleep(1000)",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "\u202eevil\u2066",
    "\u0000",
    "a\u0000b",
    "\ufeff\ufffe",
    "\U0001f47e" * 64,
    "x" * 257,
    "*",
    "\r\nset-cookie: a=b",
    "${jndi:ldap://x}",
    "{{7*7}}",
]


def operations(server: Server) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in server.http.get("/openapi.json").json()["paths"].items():
        for method, told in methods.items():
            yield method.upper(), path, told


@pytest.mark.parametrize("name", BODIES)
def test_every_route_refuses_a_body_that_is_none(server: Server, name: str) -> None:
    content, codes = BODIES[name]
    tried = 0
    for method, path, told in operations(server):
        if "application/json" not in told.get("requestBody", {}).get("content", {}):
            continue
        filled = path.replace("{item_id}", "fuzz").replace("{user_id}", "fuzz")
        body = check_envelope(server.http.request(method, filled, content=content, headers=JSON))
        assert body["code"] in codes, (method, path, body)
        tried += 1
    assert tried >= 9


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "a/b/c"])
def test_every_route_refuses_another_type(server: Server, kind: str) -> None:
    for method, path, told in operations(server):
        if "requestBody" in told and method in {"POST", "PUT", "PATCH"}:
            filled = path.replace("{item_id}", "fuzz").replace("{user_id}", "fuzz")
            answer = server.http.request(method, filled, content=b"{}", headers={"content-type": kind})
            assert check_envelope(answer)["code"] == 20001, (method, path)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_path_or_a_question_is_more_than_a_name(server: Server, name: str) -> None:
    before = server.http.get("/admin/api/v1/dashboard").json()["data"]["items"]
    escaped = quote(name, safe="")
    for method, path, told in operations(server):
        if method not in {"GET", "DELETE"} or "stream" in str(told) or "export" in path:
            continue
        filled = path.replace("{item_id}", escaped).replace("{user_id}", escaped)
        asked = {one["name"]: name for one in told.get("parameters", []) if one["in"] == "query"}
        for parameters in ({}, asked, {one: name for one in asked if one in {"q", "category", "brand", "after"}}):
            answer = server.http.request(method, filled, params=parameters)
            body = check_envelope(answer) if "json" in answer.headers["content-type"] else {"code": 0}
            assert body["code"] in {0, 20001, 20003, 20004, 20005}, (method, path, parameters, body)
            assert "set-cookie" not in answer.headers
    assert server.http.get("/admin/api/v1/dashboard").json()["data"]["items"] == before


@pytest.mark.parametrize("name", [one for one in NAMES if len(one) <= 256])
def test_any_name_is_kept_as_it_is_or_refused(server: Server, name: str) -> None:
    body = {"item_id": name, "title": name, "categories": [name], "brand": name}
    answer = check_envelope(server.http.post("/admin/api/v1/items", json=body))
    if "\x00" in name:
        assert answer["code"] == 20001
        return
    assert answer["code"] == 0, answer
    path = f"/admin/api/v1/items/{quote(name, safe='')}"
    kept = server.http.get(path).json()["data"]
    assert (kept["item_id"], kept["title"], kept["categories"], kept["brand"]) == (name, name, [name], name)
    found = server.http.get("/api/v1/search", params={"q": name, "category": name, "brand": name}).json()["data"]
    assert [one["item_id"] for one in found["items"]] in ([name], [])
    assert server.http.delete(path).json()["code"] == 0
