"""A gateway's figures of several engine processes: each is a counter of its own, so that one may start anew."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from asterism.serving.engine.status import EngineStatus
from asterism.serving.grpc.descriptions import NO_FIGURES, merged
from asterism.serving.telemetry.engine_metrics import EngineCollector
from serving.telemetry.scraping import value

UNREACHED = EngineStatus(False, None, 0, "not reached yet", "", (), (), NO_FIGURES)


def process(answered: int, starts: int = 1) -> EngineStatus:
    figures = NO_FIGURES._replace(answered=answered, degraded=answered, widths={50: answered}, waiting=2)
    return EngineStatus(True, 5, starts, None, "v1", (50,), (), figures)


def test_where_one_process_starts_anew_the_counters_of_the_others_stay() -> None:
    found = [process(100, starts=3), process(1000)]
    registry = CollectorRegistry()
    EngineCollector(lambda: merged(found), registry)

    def told(number: int) -> list[float | None]:
        label = {"process": str(number)}
        return [
            value(registry, "asterism_engine_requests_total", outcome="answered", **label),
            value(registry, "asterism_engine_degraded_requests_total", **label),
            value(registry, "asterism_engine_batches_total", width="50", **label),
            value(registry, "asterism_engine_starts_total", **label),
        ]

    assert (told(0), told(1)) == ([100, 100, 100, 3], [1000, 1000, 1000, 1])
    found[0] = process(0)
    assert (told(0)[0], told(0)[3], told(1)) == (0, 1, [1000, 1000, 1000, 1])
    assert value(registry, "asterism_engine_waiting_requests") == 4, "what is now is of all"


def test_a_process_that_was_not_reached_yet_counts_nothing() -> None:
    found = [UNREACHED]
    registry = CollectorRegistry()
    EngineCollector(lambda: merged(found), registry)
    names = ("asterism_engine_requests_total", "asterism_engine_starts_total")
    assert [value(registry, name) for name in names] == [None, None]
    assert value(registry, "asterism_engine_up") == 0
    found[0] = process(7)
    assert [value(registry, name, process="0") for name in names] == [7, 1]
