"""A traced request leaves its spans with a collector, from every process it went through, and nobody waits for that."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from starlette.types import Message, Receive, Scope, Send

from asterism.core.errors import ConfigError
from asterism.serving.telemetry.otel import OtelTracer
from asterism.serving.telemetry.request_tracing import RequestTracing
from asterism.serving.telemetry.routes import RouteLabels
from asterism.serving.telemetry.spans import Tracer, current_trace, is_sampled
from asterism.serving.telemetry.tracing import DEFAULT_SHARE, TraceSettings, trace_settings
from serving.running import Server, environment, wait_until
from serving.telemetry.collector import Collector, ReceivedSpan
from serving.telemetry.conftest import Observed

CALLER = "00f067aa0ba902b7"
#: The spans of a request and a click; the engine is asked by the gateway and by the worker.
ONCE = (
    *("POST /api/v1/recommend", "state", "POST /api/v1/feedback", "feedback commit"),
    *("bus behaviours", "nearline recompute"),
)
TWICE = ("engine", "engine predict", "engine batch")


def traceparent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{CALLER}-{flags}"}


def ask(server: Server, trace_id: str, flags: str = "01", user: str = "u1") -> str:
    answer = server.http.post("/api/v1/recommend", json={"user_id": user}, headers=traceparent(trace_id, flags)).json()
    assert answer["code"] == 0
    return str(answer["trace_id"])


def click(server: Server, trace_id: str, item_id: str, user: str = "u1") -> int:
    body = {"user_id": user, "item_id": item_id, "action": "click"}
    return server.http.post("/api/v1/feedback", json=body, headers=traceparent(trace_id)).status_code


def whole(observed: Observed, trace_id: str, user: str) -> bool:
    """Whether a user's request and click left every span; a slow machine may hold up the one try at a next slate."""
    assert ask(observed.server, trace_id, user=user) == trace_id
    assert click(observed.server, trace_id, "lamps-03", user) == 200

    def has_come() -> bool:
        names = Counter(one.name for one in observed.collector.spans if one.trace_id == trace_id)
        return set(ONCE) <= set(names) and all(names[one] == 2 for one in TWICE)

    try:
        wait_until(has_come, 30)
    except AssertionError:
        return False
    return True


def test_a_trace_goes_through_three_processes(observed: Observed) -> None:
    server, collector = observed.server, observed.collector
    unsampled, refused = (letter * 32 for letter in "bc")
    users = {letter * 32: user for letter, user in (("a", "u1"), ("d", "u5"), ("e", "u9"))}
    assert ask(server, unsampled, "00", "u2") == unsampled
    server.recommend("u3")
    assert click(server, refused, "nothing") == 404
    tried: list[str] = []
    for trace_id, user in users.items():
        tried.append(trace_id)
        if whole(observed, trace_id, user):
            break
    else:
        raise AssertionError("spans are missing")
    spans = collector.of_trace(trace_id, set(ONCE))
    failed = collector.of_trace(refused, {"feedback commit", "POST /api/v1/feedback"})
    of_request = [one for one in collector.spans if one.trace_id == trace_id]
    by_id = {one.span_id: one for one in of_request}
    request, commit = spans["POST /api/v1/recommend"], spans["feedback commit"]
    assert (request.parent_id, request.attributes["http.response.status_code"]) == (CALLER, 200)
    assert spans["state"].parent_id == request.span_id
    assert commit.parent_id == spans["POST /api/v1/feedback"].span_id
    assert spans["bus behaviours"].parent_id == spans["nearline recompute"].parent_id == commit.span_id
    batch = spans["engine batch"]
    to_engine = {path_of(one, by_id) for one in of_request if one.name == "engine"}
    assert to_engine == {
        ("POST /api/v1/recommend", "engine"),
        (*path_of(commit, by_id), "nearline recompute", "engine"),
    }
    assert path_of(batch, by_id)[-3:] == ("engine", "engine predict", "engine batch")
    assert batch.links == (batch.parent_id,)
    assert batch.attributes["asterism.batch.requests"] == 1
    by_service = {one.service: one.process for one in of_request}
    assert set(by_service) == {"asterism-gateway", "asterism-engine", "asterism-worker"}
    assert len(set(by_service.values())) == 3
    assert failed["feedback commit"].failed
    assert not commit.failed
    assert {one.trace_id for one in collector.spans} == {*tried, refused}
    for one in collector.spans:  # nobody is named in a trace
        assert not {*users.values(), "lamps-03", "nothing"} & {str(value) for value in one.attributes.values()}


def path_of(span: ReceivedSpan, by_id: dict[str, ReceivedSpan]) -> tuple[str, ...]:
    """The names from the first span of this trace that we know down to this one."""
    above = by_id.get(span.parent_id)
    return (*(path_of(above, by_id) if above is not None else ()), span.name)


def traced_answer(tracer: Tracer, headers: list[tuple[bytes, bytes]]) -> tuple[str | None, list[tuple[bytes, bytes]]]:
    """What is current while the application works, and the headers that it sees."""
    seen: list[tuple[str | None, list[tuple[bytes, bytes]]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((current_trace.get(), scope["headers"]))

    async def nothing(*_: Message) -> Message:
        raise AssertionError("nobody speaks")

    scope = {"type": "http", "path": "/a", "method": "GET", "headers": headers}
    asyncio.run(RequestTracing(app, tracer, RouteLabels(["/a"]))(scope, nothing, nothing))
    return seen[0]


def test_a_share_of_untraced_requests_begins_a_trace() -> None:
    with Collector() as collector:
        share_of_untraced(collector)


def share_of_untraced(collector: Collector) -> None:
    every = OtelTracer(collector.endpoint, "gateway", share=1.0)
    current, headers = traced_answer(every, [(b"traceparent", b"nonsense"), (b"x", b"y")])
    assert current is not None
    assert headers == [(b"x", b"y"), (b"traceparent", current.encode())]
    assert traced_answer(every, [(b"traceparent", f"00-{'e' * 32}-{CALLER}-00".encode())])[0] is None
    every.close()
    found = collector.of_trace(current.split("-")[1], {"GET /a"})["GET /a"]
    assert (found.parent_id, found.span_id) == ("", current.split("-")[2])
    none = OtelTracer(collector.endpoint, "gateway", share=0.0)
    assert traced_answer(none, [])[0] is None
    some = OtelTracer(collector.endpoint, "gateway", share=0.25)
    assert 180 < sum(some.chooses() for _ in range(1000)) < 320
    none.close()
    some.close()


def test_a_collector_that_is_silent_holds_nobody_up() -> None:
    with socket.socket() as silent:  # takes connections, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        before = set(threading.enumerate())
        tracer = OtelTracer(f"http://127.0.0.1:{silent.getsockname()[1]}", "gateway", share=1.0)
        started = time.monotonic()
        for _ in range(10_000):  # more than the queue holds
            tracer.begin("work").end()
        assert time.monotonic() - started < 60, "who waits for the collector waits ten seconds for each 512 spans"
        started = time.monotonic()
        others = set(threading.enumerate()) - before
        assert others, "a thread sends the spans"
        tracer.close()
        assert time.monotonic() - started < 20, "it is given two seconds, and its queue would take minutes"
        wait_until(lambda: not any(one.is_alive() for one in others), 15)  # nothing tries again after that


def test_without_a_collector_no_library_of_traces_is_loaded() -> None:
    program = (
        "import sys; from asterism.serving.http import server;"
        "assert not [one for one in sys.modules if one.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    )
    clean = {name: text for name, text in environment().items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", program], check=True, env=clean)


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "  "}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, TraceSettings("http://c:4317", DEFAULT_SHARE)),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4317", "OTEL_TRACES_SAMPLER_ARG": "0.5"},
            TraceSettings("https://c:4317", 0.5),
        ),
    ],
)
def test_the_environment_says_whether_and_how_many(said: dict[str, str], understood: TraceSettings | None) -> None:
    assert trace_settings(said) == understood


@pytest.mark.parametrize("endpoint", ["localhost:4317", "grpc://c:4317", "http://"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})


@pytest.mark.parametrize("share", ["", "half", "1.5", "-0.1", "nan"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER_ARG"):
        trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_SAMPLER_ARG": share})


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{'a' * 32}-{CALLER}-01", True),
        (f"00-{'a' * 32}-{CALLER}-00", False),
        (f"00-{'a' * 32}-{CALLER}-03", True),
        (f"cc-{'a' * 32}-{CALLER}-01-later", True),
        (f"ff-{'a' * 32}-{CALLER}-01", None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{'a' * 32}-{'0' * 16}-01", None),
        (f"00-{'A' * 32}-{CALLER}-01", None),
        ("", None),
        (f"00-{'a' * 32}-{CALLER}-0g", None),
    ],
)
def test_what_a_caller_decided(header: str, sampled: bool | None) -> None:
    assert is_sampled(header) is sampled
