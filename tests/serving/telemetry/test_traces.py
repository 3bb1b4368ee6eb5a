"""A traced request leaves its spans with a collector, from every process it went through, and nobody waits for that."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asterism.core.errors import ConfigError
from asterism.serving.telemetry.spans import is_sampled
from asterism.serving.telemetry.tracing import DEFAULT_SHARE, TraceSettings, trace_settings
from serving.running import Server, environment
from serving.telemetry.collector import Collector

CALLER = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def traceparent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{CALLER}-{flags}"}


def ask(server: Server, trace_id: str, flags: str = "01", user: str = "u1") -> str:
    answer = server.http.post("/api/v1/recommend", json={"user_id": user}, headers=traceparent(trace_id, flags)).json()
    assert answer["code"] == 0
    return str(answer["trace_id"])


def test_a_request_is_one_trace(collector: Collector, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    trace_id, other, fed = (letter * 32 for letter in "abc")
    with Server(bundle, bundle.parent / "state") as server:
        assert ask(server, trace_id) == trace_id
        assert ask(server, other, "00") == other
        server.recommend("u2")
        body = {"user_id": "u1", "item_id": "lamps-03", "action": "click"}
        assert server.http.post("/api/v1/feedback", json=body, headers=traceparent(fed)).status_code == 200
        body["item_id"] = "nothing"
        assert server.http.post("/api/v1/feedback", json=body, headers=traceparent("d" * 32)).status_code == 404
        pid = server.process.pid
    spans = collector.of_trace(trace_id, {"POST /api/v1/recommend", "state", "engine", "engine batch"})
    request, engine, batch = spans["POST /api/v1/recommend"], spans["engine"], spans["engine batch"]
    assert request.parent_id == CALLER
    assert request.attributes["http.response.status_code"] == 200
    assert (spans["state"].parent_id, engine.parent_id) == (request.span_id, request.span_id)
    assert batch.parent_id == engine.span_id
    assert batch.links == (engine.span_id,)
    assert batch.attributes["asterism.batch.requests"] == 1
    assert {(one.service, one.process) for one in spans.values()} == {("asterism-gateway", pid)}
    fed_spans = collector.of_trace(fed, {"POST /api/v1/feedback", "feedback commit"})
    assert fed_spans["feedback commit"].parent_id == fed_spans["POST /api/v1/feedback"].span_id
    refused = collector.of_trace("d" * 32, {"feedback commit"})["feedback commit"]
    assert refused.failed
    assert {one.trace_id for one in collector.spans} == {trace_id, fed, "d" * 32}
    for one in collector.spans:  # nobody is named in a trace
        assert not {"u1", "lamps-03", "nothing"} & {str(value) for value in one.attributes.values()}


def test_a_share_of_untraced_requests_begins_a_trace(
    collector: Collector, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    with Server(bundle, bundle.parent / "state") as server:
        answer = server.http.post("/api/v1/recommend", json={"user_id": "u1"}).json()
    spans = collector.of_trace(answer["trace_id"], {"POST /api/v1/recommend", "engine batch"})
    assert spans["POST /api/v1/recommend"].parent_id == ""


def test_a_collector_that_is_down_holds_nobody_up(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:  # takes connections, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
        with Server(bundle, bundle.parent / "state") as server:
            for number in range(40):
                server.recommend(f"u{number % 10}")
            started = time.monotonic()
            assert server.stop(signal.SIGTERM) == 0
            assert time.monotonic() - started < 8


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
