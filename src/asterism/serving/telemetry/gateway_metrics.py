"""What the gateway counts, each child bound before the first request."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from asterism.serving.recommendation import Recommendation, Source
from asterism.serving.telemetry.families import (
    LOOP_BUCKETS,
    REQUEST_BUCKETS,
    STAGE_BUCKETS,
    Count,
    Counts,
    Histograms,
    Observations,
    add_histogram,
    gauge,
)
from asterism.serving.telemetry.routes import METHODS, OTHER

#: Where an answer may come from, best first; what is pinned or new is only ever among an answer's items.
RUNGS = (Source.MODEL, Source.STALE, Source.POPULAR_SEGMENT, Source.POPULAR)
_CLASSES = {one: f"{one}xx" for one in range(1, 6)}


class RequestMetrics(Collector):
    """Requests and their time by route, method and class of status: one observation serves both."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._kept: dict[tuple[str, str, int], Observations] = {}
        self._observing: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self.in_progress = 0
        registry.register(self)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Take in a request that was answered."""
        key = (route, method, status // 100)
        observe = self._observing.get(key)
        if observe is None:
            observe = self._new(key)
        observe(seconds)

    def _new(self, key: tuple[str, str, int]) -> Callable[[float], None]:
        route, method, class_ = key
        known = (route, method if method in METHODS else OTHER, class_ if class_ in _CLASSES else 5)
        observe = self._kept.setdefault(known, Observations(REQUEST_BUCKETS)).observe
        if key == known:  # else there may be as many as clients can think of
            self._observing[key] = observe
        return observe

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        requests = CounterMetricFamily(
            "asterism_http_requests", "Requests that were answered.", labels=("route", "method", "class")
        )
        seconds = HistogramMetricFamily(
            "asterism_http_request_seconds", "From a request's head to its whole answer.", labels=("route",)
        )
        by_route: dict[str, Observations] = {}
        for (route, method, class_), kept in list(self._kept.items()):
            requests.add_metric((route, method, _CLASSES[class_]), sum(kept.counts))
            by_route.setdefault(route, Observations(REQUEST_BUCKETS)).merge(kept)
        for route, kept in by_route.items():
            add_histogram(seconds, (route,), REQUEST_BUCKETS, kept)
        yield from (requests, seconds)
        yield gauge("asterism_http_requests_in_progress", "Requests that wait for their answer.", self.in_progress)


class Stages:
    """Where the time of a recommendation goes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        family = Histograms(
            "asterism_stage_seconds", "Time of each stage of a request.", ("stage",), STAGE_BUCKETS, registry
        )
        self.guard = family.child("guard")  # keys, limits, the reading of the body
        self.state = family.child("state")
        self.slate = family.child("slate")
        self.engine = family.child("engine")
        self.rerank = family.child("rerank")
        self.encode = family.child("encode")


class FeedbackMetrics:
    """What became of the events that were sent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        events = Counts(
            "asterism_feedback_events", "Events of feedback by what became of them.", ("outcome",), registry
        )
        self.accepted = events.child("accepted")
        self.duplicate = events.child("duplicate")
        self.refused = events.child("refused")  # the sender's fault
        self.failed = events.child("failed")  # ours: it could not be made durable
        self.commit = Histograms(
            "asterism_feedback_commit_seconds", "Until feedback is durable.", (), LOOP_BUCKETS, registry
        ).child()


class ExposureMetrics(Collector):
    """What became of exposures; the log itself counts what it took and could not write."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queued = 0
        self.refused = 0
        self.lost_in_log: Callable[[], int] = int
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        family = CounterMetricFamily("asterism_exposures", "Exposures by what became of them.", labels=("outcome",))
        family.add_metric(("queued",), self.queued)
        family.add_metric(("lost",), self.refused + self.lost_in_log())
        yield family


class GatewayMetrics:
    """Every metric that the gateway writes; for one event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = RequestMetrics(registry)
        self.stages = Stages(registry)
        self.feedback = FeedbackMetrics(registry)
        self._errors = Counts("asterism_http_errors", "Answers that carry an error, by its code.", ("code",), registry)
        answers = Counts("asterism_answers", "Recommendations by their best rung.", ("source",), registry)
        self.answers: dict[str, Count] = {one.value: answers.child(one.value) for one in RUNGS}
        self.cached = Counts(
            "asterism_answers_cached", "Recommendations from a kept slate that is still valid.", (), registry
        ).child()
        self.degraded = Counts(
            "asterism_answers_degraded", "Recommendations by a beam narrower than configured.", (), registry
        ).child()
        self.exposures = ExposureMetrics(registry)
        self._error_children: dict[str, Count] = {}

    def count_answer(self, answer: Recommendation, *, cached: bool) -> None:
        """Count a recommendation."""
        self.answers[answer.source._value_].value += 1  # an enum's own hash is Python, and costs a tenth of all this
        if cached:
            self.cached.value += 1
        if answer.degraded:
            self.degraded.value += 1

    def count_error(self, code: str) -> None:
        """Count an answer with this code; the caller bounds the codes."""
        kept = self._error_children.get(code)
        if kept is None:
            kept = self._error_children[code] = self._errors.child(code)
        kept.value += 1
