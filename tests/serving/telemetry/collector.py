"""A real receiver of OTLP over gRPC: what OpenTelemetry's collector is to a service, and it keeps what it gets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from serving.running import wait_until


class ReceivedSpan(NamedTuple):
    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]  # span ids
    attributes: dict[str, Any]
    failed: bool
    process: int


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens while a `with` goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Collector:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            for resource in request.resource_spans:
                about = attributes_of(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self._spans += [received(one, about) for one in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._lock:
            return list(self._spans)

    def of_trace(self, trace_id: str, names: set[str]) -> dict[str, ReceivedSpan]:
        """The spans of a trace by their names, once these are all there."""
        wait_until(lambda: names <= {one.name for one in self.spans if one.trace_id == trace_id})
        return {one.name: one for one in self.spans if one.trace_id == trace_id}


def received(span: Any, about: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        service=about["service.name"],
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(one.span_id.hex() for one in span.links),
        attributes=attributes_of(span.attributes),
        failed=span.status.code == 2,
        process=about["process.pid"],
    )


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in pairs}
