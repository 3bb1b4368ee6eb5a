"""The engine's own figures, read at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from asterism.serving.breaker import GuardedEngine
from asterism.serving.engine.status import EngineStatus
from asterism.serving.scheduling import EngineFigures
from asterism.serving.telemetry.families import gauge
from asterism.stores.breaker import BreakerState

_OUTCOMES = ("answered", "shed", "late", "withdrawn", "failed")


class EngineCollector(Collector):
    """Exposes what `EngineStatus` tells; docs/serving.md explains each figure."""

    def __init__(self, status: Callable[[], EngineStatus], registry: CollectorRegistry) -> None:
        self._status = status
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        status = self._status()
        yield from _states(status)
        yield from _counts(status.processes or (status,))
        yield from _costs(status.figures)


class BreakerCollector(Collector):
    """Exposes whether the engine is left alone for a moment, as it failed or was slow too often."""

    def __init__(self, engine: object, registry: CollectorRegistry) -> None:
        self._engine = engine
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        is_open = isinstance(self._engine, GuardedEngine) and self._engine.breaker_state is not BreakerState.CLOSED
        yield gauge("asterism_engine_breaker_open", "Whether the engine is left alone for a moment.", is_open)


def _states(status: EngineStatus) -> Iterable[Metric]:
    yield gauge("asterism_engine_up", "Whether an engine can answer.", status.ready)
    yield gauge("asterism_engine_waiting_requests", "Requests in the engine's line.", status.figures.waiting)
    yield gauge("asterism_engine_under_way_requests", "Requests that are decoded just now.", status.figures.under_way)
    kept = GaugeMetricFamily(
        "asterism_engine_kept_bytes", "What an engine keeps between requests.", labels=("engine", "store")
    )
    for number, one in enumerate(status.engines):
        for store, held in one.kept_bytes.items():
            kept.add_metric((str(number), store), held)
    yield kept


def _counts(processes: Sequence[EngineStatus]) -> Iterable[Metric]:
    """Each process has series of its own: a sum falls where one restarts, which is taken for a restart of all."""
    starts = CounterMetricFamily("asterism_engine_starts", "Starts of models in a process.", labels=("process",))
    requests = CounterMetricFamily(
        "asterism_engine_requests", "Requests to the engine by what became of them.", labels=("process", "outcome")
    )
    degraded = CounterMetricFamily(
        "asterism_engine_degraded_requests", "Answered by a narrower beam.", labels=("process",)
    )
    batches = CounterMetricFamily(
        "asterism_engine_batches", "Batches by the width of their beam.", labels=("process", "width")
    )
    for number, one in enumerate(processes):
        if not one.starts:  # it told nothing yet: a zero here would count all that it did before anew
            continue
        process = str(number)
        starts.add_metric((process,), one.starts)
        for name in _OUTCOMES:
            requests.add_metric((process, name), getattr(one.figures, name))
        degraded.add_metric((process,), one.figures.degraded)
        for width, count in one.figures.widths.items():
            batches.add_metric((process, str(width)), count)
    yield from (starts, requests, degraded, batches)


def _costs(figures: EngineFigures) -> Iterable[Metric]:
    yield gauge("asterism_engine_batch_rows", "Mean requests of recent batches.", figures.mean_rows)
    yield gauge("asterism_engine_speed_ratio", "Time of a batch against that at the start.", figures.speed)
    yield gauge("asterism_engine_spread_ratio", "Mean relative error of the estimate of a batch.", figures.spread)
    yield gauge(
        "asterism_engine_lone_seconds", "Estimate for one request, as wide as configured.", figures.lone_ms / 1000
    )
    yield gauge(
        "asterism_engine_full_seconds", "Estimate for the largest batch, at its narrowest.", figures.full_ms / 1000
    )
