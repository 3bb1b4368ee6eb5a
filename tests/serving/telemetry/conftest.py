from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from contracts.servers import free_port, is_free
from serving.running import PATIENT_MS, RUN_SECONDS, Server, wait_until
from serving.small_market import write_bundle
from serving.telemetry.collector import Collector
from serving.telemetry.scraping import value

PATIENT = ("--deadline-ms", PATIENT_MS)  # a busy machine must not change what is counted


class Observed(NamedTuple):
    """A service of three processes whose metrics and traces somebody takes."""

    server: Server
    collector: Collector
    metrics_port: int

    def scrape(self, role: str) -> str:
        """What Prometheus reads of a process."""
        ports = {"engine": self.metrics_port, "worker": self.metrics_port + 1}
        base = f"http://127.0.0.1:{ports[role]}" if role in ports else str(self.server.http.base_url)
        answer = httpx.get(f"{base}/metrics", timeout=RUN_SECONDS)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.text


def two_free_ports() -> int:
    """The first of two free ports in a row."""
    while not is_free((port := free_port()) + 1):
        pass
    return port


@pytest.fixture(scope="package")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    write_bundle(folder / "bundle")
    port = two_free_ports()
    with Collector() as collector:
        with pytest.MonkeyPatch.context() as patch:  # for this server alone: other tests' services run meanwhile
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
            patch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
            started = Server(folder / "bundle", folder / "state", "--metrics-port", str(port), *PATIENT)
        with started as server:
            running = Observed(server, collector, port)
            wait_until(lambda: works(running))
            yield running


def works(running: Observed) -> bool:
    """Whether the worker, which starts last, deals with events."""
    try:
        text = running.scrape("worker")
    except httpx.TransportError:
        return False
    return value(text, "asterism_bus_group_up", group="nearline") == 1
