"""CPU time of several pieces of work that take turns, so that what else runs on the machine weighs on all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

from asterism.core.progress import track

Work = Callable[[], object]
Figures = dict[str, float]


def interleaved(
    compared: Mapping[str, Work], batch: int, calls: Mapping[str, int], rounds: int, what: str
) -> dict[str, Figures]:
    """By name, of works that answer `batch` requests a call, so many `calls` a round; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    gc.disable()  # a collection would be put down to whatever runs when it comes
    try:
        for number in track(range(rounds + 1), what):
            for name, work in compared.items():
                spent = _seconds(work, calls[name]) / calls[name] / batch
                if number:
                    seconds[name].append(spent)
            gc.collect()
    finally:
        gc.enable()
    return {name: summary(taken) for name, taken in seconds.items()}


def alone(work: Work, batch: int, rounds: int, least_seconds: float) -> Figures:
    """One work; short ones are repeated until a round takes `least_seconds`."""
    calls = max(1, round(least_seconds / max(_seconds(work, 1), 1e-9)))
    calls = max(1, round(least_seconds * calls / max(_seconds(work, calls), 1e-9)))
    return summary([_seconds(work, calls) / calls / batch for _ in range(rounds)])


def summary(seconds: list[float]) -> Figures:
    """Median and least microseconds a request, and requests a second of both."""
    middle, least = statistics.median(seconds), min(seconds)
    return {
        "median_us": round(1e6 * middle, 1),
        "least_us": round(1e6 * least, 1),
        "requests_a_second": round(1 / middle, 1),
        "at_best": round(1 / least, 1),
    }


def _seconds(work: Work, calls: int) -> float:
    started = time.thread_time()
    for _ in range(calls):
        work()
    return time.thread_time() - started
