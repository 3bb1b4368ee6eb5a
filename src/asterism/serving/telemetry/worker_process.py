"""What is measured of a worker: how far its groups are behind the bus, what they buried, and the nearline loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from asterism.serving.telemetry.families import LOOP_BUCKETS, Counts, Histograms
from asterism.serving.telemetry.spans import SpanKind, Tracer
from asterism.stores.event_log import Event

_MOST_LINKS: Final = 64


class GroupFigures(Protocol):
    """A group of consumers as it is now."""

    @property
    def lag(self) -> int | None:
        """Events of the bus that it has not dealt with; None where the bus does not tell."""
        ...

    @property
    def handled(self) -> int:
        """Events dealt with since the start."""
        ...

    @property
    def buried(self) -> int:
        """Events put aside since the start, as nothing could be done with them."""
        ...


class WorkerCollector(Collector):
    """Exposes the figures of each group, read at each scrape."""

    def __init__(self, groups: Callable[[], Mapping[str, GroupFigures]], registry: CollectorRegistry) -> None:
        self._groups = groups
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        lag = GaugeMetricFamily("asterism_bus_lag_events", "Events a group is behind the bus.", labels=("group",))
        handled = CounterMetricFamily("asterism_bus_handled_events", "Events dealt with.", labels=("group",))
        buried = CounterMetricFamily("asterism_bus_dead_letters", "Events put aside for people.", labels=("group",))
        for name, group in self._groups().items():
            if group.lag is not None:
                lag.add_metric((name,), group.lag)
            handled.add_metric((name,), group.handled)
            buried.add_metric((name,), group.buried)
        yield from (lag, handled, buried)


class NearlineMetrics:
    """From feedback to the slate that it changed."""

    def __init__(self, registry: CollectorRegistry, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self.seconds = Histograms(
            "asterism_nearline_seconds",
            "From an event's arrival at the worker to its slate.",
            (),
            LOOP_BUCKETS,
            registry,
        ).child()
        slates = Counts("asterism_nearline_slates", "Recomputed slates by what became of them.", ("outcome",), registry)
        self.kept = slates.child("kept")
        self.failed = slates.child("failed")

    def span(self, events: Sequence[Event]) -> AbstractContextManager[Any]:
        """A span around one recompute, below the first traced event that asked for it and linked to the others."""
        traces = list(dict.fromkeys(one.trace for one in events if one.trace is not None))
        if self._tracer is None or not traces:
            return nullcontext()
        return self._tracer.span("nearline recompute", SpanKind.CONSUMER, parent=traces[0], links=traces[1:_MOST_LINKS])
