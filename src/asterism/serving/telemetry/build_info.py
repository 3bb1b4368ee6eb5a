"""Which code serves which bundle in which role."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from asterism import __version__
from asterism.core.bundle import Bundle
from asterism.serving.telemetry.families import gauge

Role = Literal["gateway", "engine", "worker"]


class BuildInfo(Collector):
    """A metric that is always 1, and the age of the bundle."""

    def __init__(self, role: Role, served: Callable[[], Bundle | None], registry: CollectorRegistry) -> None:
        self._role = role
        self._served = served  # another one after a swap
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        bundle = self._served()
        info = GaugeMetricFamily(
            "asterism_build_info", "The code, the bundle and the role.", labels=("version", "bundle_version", "role")
        )
        info.add_metric((__version__, "" if bundle is None else bundle.version, self._role), 1)
        yield info
        if bundle is None:
            return
        created = datetime.fromisoformat(bundle.manifest.created_at).timestamp()
        yield gauge("asterism_bundle_created_seconds", "When the bundle was trained, Unix seconds.", created)


def new_registry(role: Role, served: Callable[[], Bundle | None] = lambda: None) -> CollectorRegistry:
    """A registry of one service: its build, what it serves just now, and its process's memory, time and files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    BuildInfo(role, served, registry)
    return registry
