"""Counters and histograms are what prometheus-client's own would be, at a fraction of the cost."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from asterism.serving.telemetry.families import LOOP_BUCKETS, REQUEST_BUCKETS, STAGE_BUCKETS, Counts, Histograms


def samples(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) → value, as a scrape reads it; without the moment of creation, which only the twin tells."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("bounds", [REQUEST_BUCKETS, STAGE_BUCKETS, LOOP_BUCKETS, (0.5,)])
def test_a_histogram_is_the_one_of_prometheus_client(bounds: tuple[float, ...]) -> None:
    draws = random.Random(3)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = Histograms("seconds", "told", ("route",), bounds, ours)
    twin = Histogram("seconds", "told", ("route",), buckets=bounds, registry=theirs)
    for route in ("a", 'b"\n'):
        for value in [*bounds, 0.0, 99.0, *(draws.lognormvariate(-4, 2) for _ in range(500))]:
            family.child(route).observe(value)
            twin.labels(route).observe(value)
    assert samples(ours) == samples(theirs)


def test_buckets_resolve_what_is_promised() -> None:
    for bounds in (REQUEST_BUCKETS, STAGE_BUCKETS):
        assert list(bounds) == sorted(set(bounds))
        assert {0.001, 0.01, 0.04, 0.05} <= set(bounds)
        assert sum(0.001 <= one <= 0.05 for one in bounds) >= 12


def test_counters_by_labels() -> None:
    registry = CollectorRegistry()
    family = Counts("events", "told", ("outcome", "by"), registry)
    family.child("kept", "me").add()
    family.child("kept", "me").add(4)
    family.child("lost", "me")
    assert samples(registry) == {
        ("events_total", frozenset({("outcome", "kept"), ("by", "me")})): 5,
        ("events_total", frozenset({("outcome", "lost"), ("by", "me")})): 0,
    }
    with pytest.raises(ValueError, match="labels"):
        family.child("kept")


def test_two_registries_share_nothing() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    Counts("events", "told", (), first).child().add(3)
    Counts("events", "told", (), second).child().add(1)
    assert (samples(first), samples(second)) == (
        {("events_total", frozenset()): 3},
        {("events_total", frozenset()): 1},
    )
