"""How Prometheus comes to the figures: one process, one endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest, start_http_server
from prometheus_client.registry import CollectorRegistry

from asterism.core.errors import ConfigError
from asterism.serving.places import METRICS_HOST

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4  # what every Prometheus reads


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """A server of metrics beside a process's work."""

    server: WSGIServer
    thread: Thread

    def stop(self) -> None:
        """Let go of the port."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def render(registry: CollectorRegistry) -> bytes:
    """All metrics of a registry in Prometheus's text form."""
    return generate_latest(registry)


def start_metrics(port: int, registry: CollectorRegistry, host: str = METRICS_HOST) -> MetricsEndpoint:
    """Serve a registry at `http://host:port/metrics` from a daemon thread; raises `ConfigError` where it cannot."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error}); choose others with --metrics-port and --metrics-host"
        ) from error
    return MetricsEndpoint(server, thread)


@contextmanager
def serving_metrics(port: int | None, registry: CollectorRegistry, host: str) -> Iterator[None]:
    """`start_metrics` around a block; nothing where there is no port."""
    endpoint = None if port is None else start_metrics(port, registry, host)
    try:
        yield
    finally:
        if endpoint is not None:
            endpoint.stop()
