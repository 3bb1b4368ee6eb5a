"""What is measured of a worker: how far its groups are behind the bus, what they buried, how long a batch takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from asterism.core.bundle import Bundle
from asterism.serving.telemetry.build_info import new_registry
from asterism.serving.telemetry.families import LOOP_BUCKETS, Histograms, Observations, gauge
from asterism.serving.telemetry.nearline import NearlineMetrics
from asterism.serving.telemetry.observing import Call, replace_method
from asterism.serving.telemetry.spans import SpanKind, Tracer
from asterism.serving.telemetry.tracing import open_tracer, trace_settings
from asterism.serving.worker.batches import Arrival, Handler
from asterism.serving.worker.group import Group, GroupState
from asterism.serving.worker.nearline_group import Nearline

_MOST_LINKS: Final = 64
_WELL: Final = (GroupState.STARTING, GroupState.RUNNING)


class _Worker(Protocol):
    @property
    def groups(self) -> Sequence[Group]: ...


@dataclass(frozen=True, slots=True)
class WorkerTelemetry:
    """The metrics of one worker, for `start_metrics`, and its traces where the environment asks for them."""

    registry: CollectorRegistry
    tracer: Tracer | None

    def close(self) -> None:
        """Send the spans that wait."""
        if self.tracer is not None:
            self.tracer.close()


def instrument_worker(worker: _Worker, bundle: Bundle) -> WorkerTelemetry:
    """Measure a worker that is not started yet; raises `ConfigError`, `MissingDependencyError`."""
    settings = trace_settings(os.environ)
    tracer = None if settings is None else open_tracer(settings, "worker")
    registry = new_registry("worker", bundle)
    GroupCollector(worker.groups, registry)
    seconds = Histograms(
        "asterism_bus_batch_seconds", "Time to deal with a batch of events.", ("group",), LOOP_BUCKETS, registry
    )
    nearline = NearlineMetrics(registry, tracer)
    for group in worker.groups:
        replace_method(group, "_open_handler", _observed(group.name, seconds.child(group.name), nearline, tracer))
    return WorkerTelemetry(registry, tracer)


class GroupCollector(Collector):
    """Exposes the figures of each group, read at each scrape."""

    def __init__(self, groups: Sequence[Group], registry: CollectorRegistry) -> None:
        self._groups = groups
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        up = GaugeMetricFamily("asterism_bus_group_up", "Whether a group works.", labels=("group",))
        lag = GaugeMetricFamily("asterism_bus_lag_events", "Events a group is behind the bus.", labels=("group",))
        handled = CounterMetricFamily("asterism_bus_handled_events", "Events dealt with.", labels=("group",))
        buried = CounterMetricFamily("asterism_bus_dead_letters", "Events put aside for people.", labels=("group",))
        for one in self._groups:
            labels = (one.name,)
            up.add_metric(labels, one.state in _WELL)
            lag.add_metric(labels, one.lag)
            handled.add_metric(labels, one.handled)
            buried.add_metric(labels, one.buried)
        yield from (up, lag, handled, buried)
        stale = [loop.slates.stale for one in self._groups if (loop := _loop_of(one)) is not None]
        yield gauge("asterism_nearline_waiting_visitors", "Visitors who wait for a slate.", sum(map(len, stale)))
        yield CounterMetricFamily(
            "asterism_nearline_dropped_visitors",
            "Left out, as too many waited.",
            value=sum(one.dropped for one in stale),
        )


def _loop_of(group: Group) -> Nearline | None:
    handler = group.handler
    inner = handler.inner if isinstance(handler, ObservedHandler) else handler
    return inner if isinstance(inner, Nearline) else None


class ObservedHandler:
    """Implements `Handler`; a batch's span stands below its first traced event and links to the others."""

    def __init__(self, inner: Handler, name: str, kept: Observations, tracer: Tracer | None) -> None:
        self.inner = inner
        self._name = f"bus {name}"
        self._kept = kept
        self._tracer = tracer

    @property
    def has_more(self) -> bool:
        """See `Handler.has_more`."""
        return self.inner.has_more

    def __call__(self, batch: Sequence[Arrival]) -> None:
        """See `Handler`; what is done beside the bus is no batch."""
        if not batch:
            self.inner(batch)
            return
        started = perf_counter()
        try:
            with self._span(batch):
                self.inner(batch)
        finally:
            self._kept.observe(perf_counter() - started)

    def forget(self, user_id: str) -> None:
        """See `Handler.forget`."""
        self.inner.forget(user_id)

    def close(self) -> None:
        """See `Handler.close`."""
        self.inner.close()

    def _span(self, batch: Sequence[Arrival]) -> AbstractContextManager[object]:
        if self._tracer is None:
            return nullcontext()
        traces = list(dict.fromkeys(one.event.trace for one in batch if one.event.trace is not None))
        if not traces:
            return nullcontext()
        attributes = {"asterism.batch.events": len(batch)}
        return self._tracer.span(
            self._name, SpanKind.CONSUMER, parent=traces[0], links=traces[1:_MOST_LINKS], attributes=attributes
        )


def _observed(
    name: str, kept: Observations, nearline: NearlineMetrics, tracer: Tracer | None
) -> Callable[[Call], Call]:
    def wrap(opener: Call) -> Call:
        def opened() -> ObservedHandler:
            handler = opener()
            if isinstance(handler, Nearline):
                nearline.watch(handler)
            return ObservedHandler(handler, name, kept, tracer)

        return opened

    return wrap
