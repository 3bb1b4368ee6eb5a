"""What Prometheus finds at a running service: figures that went up by what was done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from asterism import __version__
from asterism.core.errors import ConfigError
from asterism.serving.telemetry.exposition import start_metrics
from serving.running import wait_until
from serving.telemetry.conftest import Observed
from serving.telemetry.scraping import value

Change = Callable[..., float]


def changes(before: str, after: str) -> Change:
    """By how much a metric went up between two scrapes."""

    def change(name: str, /, **labels: str) -> float:
        return (value(after, name, **labels) or 0.0) - (value(before, name, **labels) or 0.0)

    return change


def test_the_gateway_counts_what_it_does(observed: Observed) -> None:
    server = observed.server
    before = observed.scrape("gateway")
    server.recommend("u11")
    server.recommend("u11")
    server.recommend("nobody-yet")
    server.feedback("u11", "lamps-04", event_id="once")
    server.feedback("u11", "lamps-04", event_id="once")
    assert server.http.post("/api/v1/feedback", json={"item_id": "lamps-04", "action": "click"}).status_code == 400
    missing = {"user_id": "u11", "item_id": "no", "action": "click"}
    assert server.http.post("/api/v1/feedback", json=missing).status_code == 404
    change = changes(before, observed.scrape("gateway"))
    recommend = {"route": "/api/v1/recommend", "method": "POST", "class": "2xx"}
    assert change("asterism_http_requests_total", **recommend) == 3
    assert change("asterism_http_request_seconds_count", route="/api/v1/recommend") == 3
    assert change("asterism_http_requests_total", route="/api/v1/feedback", **{"class": "4xx"}) == 2
    assert change("asterism_http_errors_total", code="20003") == 1
    assert change("asterism_answers_total", source="model") == 2
    assert change("asterism_answers_total", source="popular") == 1
    assert change("asterism_answers_cached_total") == 1
    assert change("asterism_exposures_total", outcome="queued") == 3
    assert change("asterism_exposures_total", outcome="lost") == 0
    assert change("asterism_feedback_events_total", outcome="accepted") == 1
    assert change("asterism_feedback_events_total", outcome="duplicate") == 1
    assert change("asterism_feedback_events_total", outcome="refused") == 2
    assert change("asterism_feedback_commit_seconds_count") == 2
    assert change("asterism_stage_seconds_count", stage="state") == 3
    assert change("asterism_stage_seconds_count", stage="engine") == 1
    assert change("asterism_stage_seconds_count", stage="encode") == 3
    assert change("asterism_stage_seconds_count", stage="guard") >= 7

    def answered() -> float:  # which the engine tells twice a second
        return changes(before, observed.scrape("gateway"))("asterism_engine_requests_total", outcome="answered")

    wait_until(lambda: answered() >= 1)


def test_engine_and_worker_tell_of_themselves(observed: Observed) -> None:
    engine, worker = observed.scrape("engine"), observed.scrape("worker")
    observed.server.recommend("u12")
    observed.server.feedback("u12", "lamps-05")
    for name in ("asterism_engine_batch_requests_sum", "asterism_engine_batch_seconds_count"):
        wait_until(lambda name=name: changes(engine, observed.scrape("engine"))(name) >= 1)  # type: ignore[misc]

    def since(name: str, **labels: str) -> float:
        return changes(worker, observed.scrape("worker"))(name, **labels)

    def agree() -> bool:
        change = changes(worker, observed.scrape("worker"))
        made = change("asterism_nearline_slates_total", outcome="made")
        return made == change("asterism_nearline_seconds_count")

    for group in ("behaviours", "history", "nearline"):
        wait_until(lambda group=group: since("asterism_bus_handled_events_total", group=group) >= 1)  # type: ignore[misc]
        assert since("asterism_bus_dead_letters_total", group=group) == 0
    wait_until(lambda: since("asterism_nearline_slates_total") >= 1)
    wait_until(agree)
    wait_until(lambda: since("asterism_bus_batch_seconds_count", group="history") >= 1)


def test_every_process_says_what_it_is(observed: Observed) -> None:
    for role in ("gateway", "engine", "worker"):
        text = observed.scrape(role)
        assert value(text, "asterism_build_info", role=role, version=__version__) == 1
        assert (value(text, "process_resident_memory_bytes") or 0) > 1 << 20
        assert (value(text, "process_start_time_seconds") or 0) > 1_700_000_000, "alerts on restarts read it"
        if role != "worker":  # which may have none
            assert (value(text, "asterism_bundle_created_seconds") or 0) > 1_700_000_000
    assert value(observed.scrape("gateway"), "asterism_engine_up") == 1


def test_no_label_names_anybody(observed: Observed) -> None:
    observed.server.http.get("/api/v1/item/a-very-special-item")
    observed.server.http.get("/a-very-special-path", headers={"x-api-key": "a-very-special-key"})
    observed.server.recommend("a-very-special-user")
    for role in ("gateway", "engine", "worker"):
        assert "special" not in observed.scrape(role)


def test_a_port_that_is_taken_is_refused() -> None:
    first = start_metrics(0, CollectorRegistry())
    with pytest.raises(ConfigError, match="--metrics-port"):
        start_metrics(first.server.server_port, CollectorRegistry())
    first.stop()
    start_metrics(first.server.server_port, CollectorRegistry()).stop()
