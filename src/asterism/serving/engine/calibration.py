"""Measures an engine before it serves: that warms it up, and gives the cost model its shape."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from asterism.serving.ports import ElasticEngine, Engine, EngineRequest, HistoryEvent
from asterism.serving.scheduling import CostSample, width_ladder

_ROWS: Final = (1, 8, 32)
_EVENTS: Final = 50
_COUNT: Final = 10
_REPEATS: Final = 3
_BUDGET_SECONDS: Final = 4.0


def made_requests(item_ids: Sequence[str], rows: int, count: int = _COUNT) -> list[EngineRequest]:
    """Requests of users who took fifty random items each."""
    drawn = random.Random(0)
    requests = []
    for _ in range(rows):
        events = [HistoryEvent(place, drawn.choice(item_ids), "click") for place in range(_EVENTS)]
        requests.append(EngineRequest(tuple(events), count))
    return requests


def calibrate(engine: Engine, item_ids: Sequence[str], min_beam: int | None) -> tuple[CostSample, ...]:
    """The least seconds of batches of several sizes, at the widest and the narrowest beam.

    The least, because a swap measures beside an engine that serves: an estimate that is too high would refuse requests,
    one that is too low is soon corrected. What is slow is measured less often; after four seconds nothing more begins.
    Raises `ConfigError` on a narrowest beam that is none.
    """
    widths: tuple[int, ...] = (0,)
    if isinstance(engine, ElasticEngine):
        ladder = width_ladder(engine.beam, min_beam)
        widths = (ladder[0], ladder[-1]) if len(ladder) > 1 else ladder
    if not item_ids:
        return ()
    end = time.monotonic() + _BUDGET_SECONDS
    requests = made_requests(item_ids, _ROWS[-1])
    samples: list[CostSample] = []
    for rows in _ROWS:
        for width in widths:
            seconds: list[float] = []
            while len(seconds) < _REPEATS and (time.monotonic() < end):
                seconds.append(_timed(engine, requests[:rows], width))
            if seconds:
                samples.append(CostSample(rows, max(width, _COUNT) if width else 0, min(seconds)))
    return tuple(samples)


def _timed(engine: Engine, requests: list[EngineRequest], width: int) -> float:
    started = time.monotonic()
    if isinstance(engine, ElasticEngine):
        engine.recommend_within(requests, width, lambda: True)
    else:
        engine.recommend(requests)
    return time.monotonic() - started
