"""Batches of the engine: how many requests they hold, how long they take, and their spans."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from prometheus_client.registry import CollectorRegistry

from asterism.serving.ports import EngineRequest
from asterism.serving.scheduling import ScheduledBatch
from asterism.serving.telemetry.families import STAGE_BUCKETS, Histograms
from asterism.serving.telemetry.spans import OpenSpan, Tracer

_ROWS: Final = (1, 2, 4, 8, 16, 32, 64)
_MOST_LINKS: Final = 64


class BatchTelemetry:
    """Implements `BatchWatcher`.

    A batch's span stands below the first traced request in it, and links to all that are.
    """

    def __init__(self, registry: CollectorRegistry, tracer: Tracer | None) -> None:
        self._rows = Histograms("asterism_engine_batch_requests", "Requests of a batch.", (), _ROWS, registry).child()
        self._seconds = Histograms(
            "asterism_engine_batch_seconds", "From a batch's sending to its answers.", (), STAGE_BUCKETS, registry
        ).child()
        self._tracer = tracer
        self._under_way: dict[int, tuple[float, OpenSpan | None]] = {}  # two of each engine at most

    def begun(self, batch: ScheduledBatch, requests: Sequence[EngineRequest]) -> None:
        """See `BatchWatcher.begun`."""
        self._rows.observe(len(requests))
        self._under_way[id(batch)] = (perf_counter(), self._span(batch, requests))

    def ended(self, batch: ScheduledBatch, error: str | None) -> None:
        """See `BatchWatcher.ended`."""
        started, span = self._under_way.pop(id(batch), (None, None))
        if started is None:
            return  # begun before anybody watched
        self._seconds.observe(perf_counter() - started)
        if span is not None:
            span.end(None if error is None else "failed")

    def _span(self, batch: ScheduledBatch, requests: Sequence[EngineRequest]) -> OpenSpan | None:
        if self._tracer is None:
            return None
        traces = list(dict.fromkeys(one.trace for one in requests if one.trace is not None))
        if not traces:
            return None
        attributes = {"asterism.batch.requests": len(requests), "asterism.batch.beam": batch.width}
        return self._tracer.begin("engine batch", parent=traces[0], links=traces[:_MOST_LINKS], attributes=attributes)
