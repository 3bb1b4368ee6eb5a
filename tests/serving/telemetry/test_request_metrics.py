"""Every request is counted under its route, and nothing that a client sends makes a label of its own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from asterism.serving.telemetry.gateway_metrics import GatewayMetrics
from asterism.serving.telemetry.request_metrics import RequestTelemetry
from asterism.serving.telemetry.routes import OTHER, RouteLabels
from serving.telemetry.scraping import value

TEMPLATES = (
    "/api/v1/recommend",
    "/api/v1/item/{item_id}",
    "/api/v1/item/{item_id}/cover",
    "/api/v1/user/{user_id}/profile",
)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/api/v1/recommend", "/api/v1/recommend"),
        ("/api/v1/recommend/", OTHER),
        ("/api/v1/item/a", "/api/v1/item/{item_id}"),
        ("/api/v1/item/a/b", "/api/v1/item/{item_id}"),
        ("/api/v1/item/a/b/cover", "/api/v1/item/{item_id}/cover"),
        ("/api/v1/item/", OTHER),
        ("/api/v1/user/a\nb/profile", "/api/v1/user/{user_id}/profile"),
        ("/api/v1/user/a", OTHER),
        ("/api/v1/xrecommend", OTHER),
        ("", OTHER),
    ],
)
def test_labels_of_paths(path: str, label: str) -> None:
    assert RouteLabels(TEMPLATES).label(path) == label


@given(st.text())
def test_any_path_has_one_of_the_known_labels(path: str) -> None:
    assert RouteLabels(TEMPLATES).label(path) in {*TEMPLATES, OTHER}


def ask(metrics: GatewayMetrics, path: str, *messages: Message, method: str = "GET", fails: bool = False) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert metrics.requests.in_progress == 1
        for one in messages:
            await send(one)
        if fails:
            raise RuntimeError("broken")

    async def nothing() -> Message:
        raise AssertionError("nobody reads")

    async def sink(_: Message) -> None:
        return None

    scope = {"type": "http", "path": path, "method": method, "headers": []}
    asyncio.run(RequestTelemetry(app, metrics, RouteLabels(TEMPLATES))(scope, nothing, sink))


def start(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


def body(text: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": more}


def test_requests_are_counted_by_route_method_and_class() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for path, status in [("/api/v1/item/a", 200), ("/api/v1/item/b", 204), ("/api/v1/item/b", 404), ("/x", 404)]:
        ask(metrics, path, start(status), body(b'{"code":20003,'))
    ask(metrics, "/api/v1/item/a", start(200), body(b""), method="BREW")
    ask(metrics, "/api/v1/item/c", method="GET")  # the client left before there was an answer
    count = "asterism_http_requests_total"
    item = "/api/v1/item/{item_id}"
    assert value(registry, count, route=item, method="GET", **{"class": "2xx"}) == 2
    assert value(registry, count, route=item, method="GET", **{"class": "4xx"}) == 2
    assert value(registry, count, route=item, method="other", **{"class": "2xx"}) == 1
    assert value(registry, count, route=OTHER, method="GET", **{"class": "4xx"}) == 1
    assert value(registry, "asterism_http_request_seconds_count", route=item) == 5
    assert value(registry, "asterism_http_requests_in_progress") == 0


def test_errors_are_counted_by_the_code_of_their_envelope() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    ask(metrics, "/x", start(503), body(b'{"code":10004,"message"', more=True), body(b'{"code":10003,'))
    ask(metrics, "/x", start(200), body(b'{"code":10004,"message"'))  # not an error
    ask(metrics, "/x", start(400), body(b"Invalid HTTP request received."))
    count = "asterism_http_errors_total"
    assert value(registry, count, code="10004") == 1
    assert value(registry, count, code=OTHER) == 1
    assert value(registry, count, code="10003") is None


def test_an_error_that_passes_through_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    with pytest.raises(RuntimeError):
        ask(metrics, "/api/v1/recommend", start(500), fails=True)
    assert metrics.requests.in_progress == 0
    assert value(registry, "asterism_http_requests_total", route="/api/v1/recommend", **{"class": "5xx"}) == 1


def test_many_strange_requests_make_few_series() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for number in range(300):
        ask(metrics, f"/api/v1/item/{number}", start(100 + number * 3), method=f"M{number}")
        ask(metrics, f"/{number}", start(200))
    family = next(one for one in registry.collect() if one.name == "asterism_http_requests")
    assert len(family.samples) <= 8
