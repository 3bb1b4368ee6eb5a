"""The benchmark of telemetry measures requests that are really counted."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from prometheus_client import CollectorRegistry

import telemetry as benchmark
from asterism.serving.telemetry.gateway_metrics import GatewayMetrics
from asterism.serving.telemetry.instrumented import Telemetry


def test_every_part_of_a_cached_request_is_counted() -> None:
    metrics = GatewayMetrics(CollectorRegistry())
    asyncio.run(benchmark.microseconds({"metrics": benchmark.request(Telemetry(metrics, None))}, 5, 2))
    stages = metrics.stages
    for kept in (stages.guard, stages.state, stages.encode):
        assert sum(kept.counts) == 10
    assert (metrics.answers["model"].value, metrics.cached.value, metrics.exposures.queued) == (10, 10, 10)
    route = {"route": "/api/v1/recommend", "method": "POST", "class": "2xx"}
    assert metrics.registry.get_sample_value("asterism_http_requests_total", route) == 10


def test_its_last_line_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["telemetry", "--number", "20", "--rounds", "1"])
    benchmark.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["added_us"]) == {"metrics", "traces_on_none_chosen", "every_request_traced"}
