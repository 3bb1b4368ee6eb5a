"""Counters and histograms that cost a seventh of a microsecond, exposed through prometheus-client at each scrape.

prometheus-client's own take a lock and walk through the buckets, 0.3 to 0.8 µs each. These are written by one
thread (the event loop) and read by the scrape, which may see the newest observation half. Where several threads
write one (states in Redis are read on threads), an observation may now and then be lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

#: Seconds of a whole request; finest where promises lie, between 1 and 50 ms.
REQUEST_BUCKETS: Final = (
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.2, 0.5, 1.0, 2.5),
)
#: Seconds of a stage, which may be over in some microseconds.
STAGE_BUCKETS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *REQUEST_BUCKETS[1:-2])
#: Seconds of what happens behind the answer.
LOOP_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)


class Count:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, more: int = 1) -> None:
        """Count."""
        self.value += more


class Observations:
    """How many observations fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last one is above all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Take one observation in; a bucket holds what is not above its bound."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def merge(self, other: Observations) -> None:
        """Take another's observations in."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


Kept = TypeVar("Kept", Count, Observations)


class _Family(Collector, Generic[Kept]):
    """Children by the values of their labels; hold on to a child rather than asking for it each time."""

    def __init__(self, name: str, told: str, labels: Sequence[str], registry: CollectorRegistry | None) -> None:
        self.name = name
        self._told = told
        self._labels = tuple(labels)
        self._children: dict[tuple[str, ...], Kept] = {}
        if registry is not None:
            registry.register(self)

    def _child(self, values: tuple[str, ...], fresh: Kept) -> Kept:
        if len(values) != len(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, and got the values {values}")
        return self._children.setdefault(values, fresh)


class Counts(_Family[Count]):
    """A counter by labels."""

    def child(self, *values: str) -> Count:
        """The counter of these labels' values, from now on exposed."""
        return self._child(values, Count())

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        family = CounterMetricFamily(self.name, self._told, labels=self._labels)
        for values, kept in list(self._children.items()):
            family.add_metric(values, kept.value)
        yield family


class Histograms(_Family[Observations]):
    """A histogram by labels."""

    def __init__(
        self,
        name: str,
        told: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry | None,
    ) -> None:
        super().__init__(name, told, labels, registry)
        self._bounds = tuple(bounds)

    def child(self, *values: str) -> Observations:
        """The histogram of these labels' values, from now on exposed."""
        return self._child(values, Observations(self._bounds))

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        family = HistogramMetricFamily(self.name, self._told, labels=self._labels)
        for values, kept in list(self._children.items()):
            add_histogram(family, values, self._bounds, kept)
        yield family


def add_histogram(
    family: HistogramMetricFamily, values: Sequence[str], bounds: Sequence[float], kept: Observations
) -> None:
    """Add a child to an exposed family, its buckets cumulative as Prometheus has them."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(repr, bounds), "+Inf"), kept.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(values, buckets, kept.total)


def gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels, as it is at a scrape."""
    return GaugeMetricFamily(name, told, value=value)
