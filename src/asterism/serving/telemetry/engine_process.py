"""What is measured of an engine process: its figures, its batches, and the calls that others trace."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client.registry import CollectorRegistry

from asterism.core.bundle import Bundle
from asterism.serving.engine.pool import EnginePool
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.telemetry.batches import BatchTelemetry
from asterism.serving.telemetry.build_info import new_registry
from asterism.serving.telemetry.engine_metrics import EngineCollector
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


def instrument_engine(pool: EnginePool, servicer: object, bundle: Bundle) -> EngineTelemetry:
    """Measure a pool, and the `ModelService` over it, from now on; raises `ConfigError`, `MissingDependencyError`."""
    registry = new_registry("engine", bundle, lambda: pool.status.bundle_version)
    EngineCollector(lambda: pool.status, registry)
    settings = trace_settings(os.environ)
    tracer = None if settings is None else open_tracer(settings, "engine")
    watch_pool(pool, registry, tracer)
    if tracer is not None:
        replace_method(servicer, "Predict", functools.partial(_traced_calls, tracer))
    return EngineTelemetry(registry, tracer)


def watch_pool(pool: EnginePool, registry: CollectorRegistry, tracer: Tracer | None) -> None:
    """Measure the batches of the pool that this process holds."""
    pool.watch_batches(BatchTelemetry(registry, tracer))
    if tracer is not None:
        replace_method(pool, "recommend", _with_trace)


def _with_trace(call: Call) -> Call:
    """Requests carry the trace of their caller into the batch."""

    @functools.wraps(call)
    async def marked(request: EngineRequest) -> EngineAnswer:
        trace = current_trace.get()
        answer: EngineAnswer = await call(request if trace is None else replace(request, trace=trace))
        return answer

    return marked


def _traced_calls(tracer: Tracer, call: Call) -> Call:
    @functools.wraps(call)
    async def served(message: Any, context: Any) -> Any:
        parent = next((value for key, value in context.invocation_metadata() or () if key == TRACEPARENT), None)
        if not isinstance(parent, str) or not is_sampled(parent):
            return await call(message, context)
        attributes = {"rpc.system": "grpc", "rpc.service": "asterism.v1.ModelService", "rpc.method": "Predict"}
        with tracer.span("ModelService/Predict", SpanKind.SERVER, parent=parent, attributes=attributes):
            return await call(message, context)

    return served
