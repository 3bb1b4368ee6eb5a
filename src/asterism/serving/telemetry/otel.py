"""Implements `Tracer` by OpenTelemetry, over OTLP and gRPC; needs the `traces` extra."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from asterism import __version__
from asterism.serving.telemetry.spans import SpanKind, current_trace

_EXPORT_SECONDS: Final = 10.0  # that a collector may take for a batch of spans
_LAST_SECONDS: Final = 2.0  # that the end of a process waits for what is left
_QUEUED_SPANS: Final = 4096  # of more, the newest are dropped
_KINDS: Final = {one: trace.SpanKind[one.name] for one in SpanKind}


class OtelSpan:
    """Implements `OpenSpan`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def note(self, name: str, value: str | int | float | bool) -> None:
        """See `Span.note`."""
        self._span.set_attribute(name, value)

    def end(self, error: str | None = None) -> None:
        """See `OpenSpan.end`."""
        if error is not None:
            self._span.set_status(trace.StatusCode.ERROR, error)
        self._span.end()


class OtelTracer:
    """Implements `Tracer`: a queue and a thread of its own, which drop spans rather than hold anybody up."""

    def __init__(self, endpoint: str, role: str, share: float) -> None:
        self._share = share
        self._draws = random.Random()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # whether is decided before a span is made: by `chooses`, or by the caller
            resource=Resource.create(
                {"service.name": f"asterism-{role}", "service.version": __version__, "process.pid": os.getpid()}
            ),
            shutdown_on_exit=False,
        )
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, _QUEUED_SPANS, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("asterism", __version__)

    def chooses(self) -> bool:
        """See `Tracer.chooses`."""
        return self._draws.random() < self._share

    def begin(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> OtelSpan:
        """See `Tracer.begin`."""
        context = Context() if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(_context(parent)))
        linked = [trace.Link(_context(one)) for one in links]
        return OtelSpan(self._tracer.start_span(name, context, _KINDS[kind], attributes, linked))

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> Iterator[OtelSpan]:
        """See `Tracer.span`."""
        span = self.begin(name, kind, parent=parent, links=links, attributes=attributes)
        token = current_trace.set(span.traceparent)
        failed: str | None = None
        try:
            yield span
        except BaseException as error:
            failed = type(error).__name__  # its sentence may name a user
            raise
        finally:
            current_trace.reset(token)
            span.end(failed)

    def close(self) -> None:
        """See `Tracer.close`; what a collector has not taken by then is lost, and nothing tries again."""
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(_LAST_SECONDS)
        if ending.is_alive():
            self._exporter.shutdown()


def _context(traceparent: str) -> trace.SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")[:4]
    return trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
