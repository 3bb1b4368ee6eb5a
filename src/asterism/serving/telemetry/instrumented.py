"""What is measured of a gateway's parts, all in one place; the parts know nothing of it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

from prometheus_client.registry import CollectorRegistry
from starlette.types import ASGIApp

from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, RequestError, UnknownIdError
from asterism.serving.breaker import GuardedEngine
from asterism.serving.engine.pool import EnginePool
from asterism.serving.engine.status import EngineStatus
from asterism.serving.pages import Page
from asterism.serving.recommendation import Recommendation, RecommendRequest
from asterism.serving.telemetry.batches import BatchTelemetry
from asterism.serving.telemetry.build_info import new_registry
from asterism.serving.telemetry.engine_metrics import BreakerCollector, EngineCollector
from asterism.serving.telemetry.engine_process import with_trace
from asterism.serving.telemetry.gateway_metrics import ExposureMetrics, FeedbackMetrics, GatewayMetrics
from asterism.serving.telemetry.observing import Call, replace_method, timed, traced
from asterism.serving.telemetry.request_metrics import BehindGuard, RequestTelemetry
from asterism.serving.telemetry.request_tracing import RequestTracing
from asterism.serving.telemetry.routes import RouteLabels
from asterism.serving.telemetry.spans import SpanKind, Tracer, current_trace
from asterism.serving.telemetry.tracing import open_tracer, trace_settings
from asterism.stores.event_log import Event


class _Recommender(Protocol):
    @property
    def reranker(self) -> object: ...

    @property
    def visits(self) -> object: ...


class _Exposures(Protocol):
    @property
    def lost(self) -> int: ...


class _Engine(Protocol):
    @property
    def status(self) -> EngineStatus: ...


class Parts(Protocol):
    """The parts of a gateway that are measured."""

    @property
    def engine(self) -> _Engine: ...

    @property
    def recommender(self) -> _Recommender: ...

    @property
    def feedback(self) -> object: ...

    @property
    def exposures(self) -> _Exposures: ...


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The metrics of one gateway, and its traces where the environment asks for them."""

    metrics: GatewayMetrics
    tracer: Tracer | None

    @property
    def registry(self) -> CollectorRegistry:
        """What `/metrics` shows."""
        return self.metrics.registry

    def inside(self, app: ASGIApp) -> ASGIApp:
        """What lies behind keys and limits; the time up to here is theirs."""
        return BehindGuard(app, self.metrics.stages.guard)

    def around(self, app: ASGIApp, templates: Sequence[str]) -> ASGIApp:
        """An application whose requests are counted, timed and traced, by the templates of its routes."""
        routes = RouteLabels(templates)
        traced_app = app if self.tracer is None else RequestTracing(app, self.tracer, routes)
        return RequestTelemetry(traced_app, self.metrics, routes)

    def close(self) -> None:
        """Send the spans that wait."""
        if self.tracer is not None:
            self.tracer.close()


def open_telemetry(served: Callable[[], Bundle]) -> Telemetry:
    """The telemetry of a gateway that serves this just now; raises `ConfigError`, `MissingDependencyError`."""
    settings = trace_settings(os.environ)
    tracer = None if settings is None else open_tracer(settings, "gateway")
    return Telemetry(GatewayMetrics(new_registry("gateway", served)), tracer)


def instrument(parts: Parts, telemetry: Telemetry) -> None:
    """Measure a gateway's parts from now on; call it once, before the first request."""
    metrics, stages = telemetry.metrics, telemetry.metrics.stages
    EngineCollector(lambda: parts.engine.status, metrics.registry)
    BreakerCollector(parts.engine, metrics.registry)
    replace_method(parts.recommender.visits, "under", timed(stages.state))
    replace_method(parts.recommender.visits, "slate", timed(stages.slate))
    engine = parts.engine.inner if isinstance(parts.engine, GuardedEngine) else parts.engine
    if isinstance(engine, EnginePool):
        engine.watch_batches(BatchTelemetry(metrics.registry, telemetry.tracer))
    replace_method(parts.engine, "recommend", timed(stages.engine))
    replace_method(parts.recommender.reranker, "slate", timed(stages.rerank))
    replace_method(parts.recommender, "recommend", functools.partial(_counted_answers, metrics))
    replace_method(parts.recommender, "again", functools.partial(_counted_again, metrics))
    metrics.exposures.lost_in_log = lambda: parts.exposures.lost
    for name in ("record", "record_again"):
        replace_method(parts.exposures, name, functools.partial(_counted_exposures, metrics.exposures))
    replace_method(parts.feedback, "accept", functools.partial(_counted_feedback, metrics.feedback))
    if telemetry.tracer is not None:
        _trace(parts, telemetry.tracer)


def _trace(parts: Parts, tracer: Tracer) -> None:
    replace_method(parts.recommender.visits, "under", traced(tracer, "state"))
    replace_method(parts.recommender.visits, "slate", traced(tracer, "slate"))
    replace_method(parts.engine, "recommend", with_trace)
    replace_method(parts.engine, "recommend", traced(tracer, "engine", SpanKind.CLIENT))
    replace_method(parts.feedback, "accept", _with_trace)
    replace_method(parts.feedback, "accept", traced(tracer, "feedback commit"))


def _counted_answers(metrics: GatewayMetrics, call: Call) -> Call:
    @functools.wraps(call)
    async def counted(request: RecommendRequest) -> Recommendation:
        answer: Recommendation = await call(request)
        metrics.count_answer(answer, cached=answer.cached)
        return answer

    return counted


def _counted_again(metrics: GatewayMetrics, call: Call) -> Call:
    @functools.wraps(call)
    def counted(page: Page) -> str:
        attribution_id: str = call(page)
        metrics.count_answer(page.answer, cached=True)
        return attribution_id

    return counted


def _counted_exposures(metrics: ExposureMetrics, call: Call) -> Call:
    @functools.wraps(call)
    def counted(*shown: Any) -> None:
        try:
            call(*shown)
        except AsterismError:
            metrics.refused += 1
            raise
        metrics.queued += 1

    return counted


def _counted_feedback(metrics: FeedbackMetrics, call: Call) -> Call:
    @functools.wraps(call)
    async def counted(events: Sequence[Event]) -> list[bool]:
        started = perf_counter()
        try:
            verdicts: list[bool] = await call(events)
        except (RequestError, UnknownIdError):
            metrics.refused.value += len(events)
            raise
        except Exception:
            metrics.failed.value += len(events)
            raise
        metrics.commit.observe(perf_counter() - started)
        accepted = sum(verdicts)
        metrics.accepted.value += accepted
        metrics.duplicate.value += len(verdicts) - accepted
        return verdicts

    return counted


def _with_trace(call: Call) -> Call:
    """Events carry the trace by which they came over the bus, where it is recorded."""

    @functools.wraps(call)
    async def marked(events: Sequence[Event]) -> list[bool]:
        trace = current_trace.get()
        marked_events = events if trace is None else [replace(one, trace=trace) for one in events]
        verdicts: list[bool] = await call(marked_events)
        return verdicts

    return marked
