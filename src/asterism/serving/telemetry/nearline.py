"""What is measured of the nearline loop: how soon a click has changed the visitor's slate."""

from __future__ import annotations

import functools
import time
from typing import Any

from prometheus_client.registry import CollectorRegistry

from asterism.serving.telemetry.engine_process import with_trace
from asterism.serving.telemetry.families import LOOP_BUCKETS, Counts, Histograms
from asterism.serving.telemetry.observing import Call, replace_method, traced
from asterism.serving.telemetry.spans import SpanKind, Tracer
from asterism.serving.worker.nearline import Outcome, Wish
from asterism.serving.worker.nearline_group import Nearline


class NearlineMetrics:
    """Outlives the loop, which is opened anew after each failure."""

    def __init__(self, registry: CollectorRegistry, tracer: Tracer | None) -> None:
        told = "From an event's arrival at the worker to its visitor's slate."
        self._seconds = Histograms("asterism_nearline_seconds", told, (), LOOP_BUCKETS, registry).child()
        slates = Counts("asterism_nearline_slates", "Wishes for a slate, by outcome.", ("outcome",), registry)
        self._outcomes = {one: slates.child(one.value) for one in Outcome}
        self._tracer = tracer

    def watch(self, loop: Nearline) -> None:
        """Measure a loop from now on."""
        replace_method(loop.slates, "settle", self._observed)
        if self._tracer is not None:
            replace_method(loop.slates, "ask", self._spanned)
            replace_method(loop.engine, "recommend", with_trace)
            replace_method(loop.engine, "recommend", traced(self._tracer, "engine", SpanKind.CLIENT))

    def _observed(self, call: Call) -> Call:
        @functools.wraps(call)
        def observed(wish: Wish, outcome: Outcome, error: BaseException | None = None) -> None:
            self._outcomes[outcome].value += 1
            if outcome is Outcome.MADE:
                self._seconds.observe(time.monotonic() - wish.since)
            call(wish, outcome, error)

        return observed

    def _spanned(self, call: Call) -> Call:
        @functools.wraps(call)
        async def spanned(wish: Wish, *args: Any) -> Any:
            trace = wish.arrival.event.trace
            if self._tracer is None or trace is None:
                return await call(wish, *args)
            with self._tracer.span("nearline recompute", SpanKind.CONSUMER, parent=trace):
                return await call(wish, *args)

        return spanned
