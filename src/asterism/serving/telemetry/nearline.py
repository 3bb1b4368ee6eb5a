"""What is measured of the nearline loop: how soon a click has changed the visitor's slate."""

from __future__ import annotations

import functools
import time

from prometheus_client.registry import CollectorRegistry

from asterism.serving.telemetry.engine_process import with_trace
from asterism.serving.telemetry.families import LOOP_BUCKETS, Counts, Histograms
from asterism.serving.telemetry.observing import Call, replace_method, traced
from asterism.serving.telemetry.spans import SpanKind, Tracer
from asterism.serving.worker.nearline import Wish
from asterism.serving.worker.nearline_group import Nearline
from asterism.stores.user_state import Visitor


class NearlineMetrics:
    """Outlives the loop, which is opened anew after each failure."""

    def __init__(self, registry: CollectorRegistry, tracer: Tracer | None) -> None:
        told = "From an event's arrival at the worker to its visitor's slate."
        self._seconds = Histograms("asterism_nearline_seconds", told, (), LOOP_BUCKETS, registry).child()
        slates = Counts("asterism_nearline_slates", "Wishes for a slate, by outcome.", ("outcome",), registry)
        self._made = slates.child("made")
        self._needless = slates.child("needless")
        self._failed = slates.child("failed")
        self._tracer = tracer

    def watch(self, loop: Nearline) -> None:
        """Measure a loop from now on."""
        replace_method(loop.slates, "make", self._observed)
        if self._tracer is not None:
            replace_method(loop.engine, "recommend", with_trace)
            replace_method(loop.engine, "recommend", traced(self._tracer, "engine", SpanKind.CLIENT))

    def _observed(self, call: Call) -> Call:
        @functools.wraps(call)
        async def observed(visitor: Visitor, wish: Wish) -> bool:
            trace = wish.arrival.event.trace
            try:
                if self._tracer is None or trace is None:
                    made: bool = await call(visitor, wish)
                else:
                    with self._tracer.span("nearline recompute", SpanKind.CONSUMER, parent=trace):
                        made = await call(visitor, wish)
            except Exception:
                self._failed.value += 1
                raise
            if made:
                self._made.value += 1
                self._seconds.observe(time.monotonic() - wish.since)
            else:
                self._needless.value += 1
            return made

        return observed
