"""What is measured of an engine process: its batches, and the calls that others trace.

Its other figures are told by the gateways that ask it (`EngineCollector`).
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from typing import Any, cast

from prometheus_client.registry import CollectorRegistry

from asterism.serving.engine.pool import EnginePool
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.telemetry.batches import BatchTelemetry
from asterism.serving.telemetry.build_info import new_registry
from asterism.serving.telemetry.observing import Call, replace_method
from asterism.serving.telemetry.spans import TRACEPARENT, SpanKind, Tracer, current_trace, is_sampled
from asterism.serving.telemetry.tracing import open_tracer, trace_settings


@dataclass(frozen=True, slots=True)
class EngineTelemetry:
    """The metrics of one engine process, for `start_metrics`, and its traces where the environment asks for them."""

    registry: CollectorRegistry
    tracer: Tracer | None

    def close(self) -> None:
        """Send the spans that wait."""
        if self.tracer is not None:
            self.tracer.close()


def instrument_engine(pool: EnginePool, servicer: object = None) -> EngineTelemetry:
    """Measure a pool from now on, and trace what is asked of it through a `ModelService`.

    Raises `ConfigError`, `MissingDependencyError`.
    """
    registry = new_registry("engine", lambda: pool.bundle)
    settings = trace_settings(os.environ)
    tracer = None if settings is None else open_tracer(settings, "engine")
    pool.watch_batches(BatchTelemetry(registry, tracer))
    if tracer is not None:
        replace_method(pool, "recommend", functools.partial(_served, tracer))
        if servicer is not None:
            replace_method(servicer, "Predict", _with_caller)
    return EngineTelemetry(registry, tracer)


def with_trace(call: Call) -> Call:
    """Requests carry the trace of their caller, into another process and into the batch."""

    @functools.wraps(call)
    async def marked(request: EngineRequest) -> EngineAnswer:
        trace = current_trace.get()
        answer: EngineAnswer = await call(request if trace is None else replace(request, trace=trace))
        return answer

    return marked


def _served(tracer: Tracer, call: Call) -> Call:
    """A span around each request that a traced caller sent."""

    @functools.wraps(call)
    async def served(request: EngineRequest) -> EngineAnswer:
        parent = request.trace or current_trace.get()
        if parent is None or not is_sampled(parent):
            return cast(EngineAnswer, await call(request))
        with tracer.span("engine predict", SpanKind.SERVER, parent=parent) as span:
            return cast(EngineAnswer, await call(replace(request, trace=span.traceparent)))

    return served


def _with_caller(call: Call) -> Call:
    """A caller who is no gateway names the trace in the call's metadata."""

    @functools.wraps(call)
    async def served(message: Any, context: Any) -> Any:
        parent = next((value for key, value in context.invocation_metadata() or () if key == TRACEPARENT), None)
        token = current_trace.set(parent if isinstance(parent, str) else None)
        try:
            return await call(message, context)
        finally:
            current_trace.reset(token)

    return served
