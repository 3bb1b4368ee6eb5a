"""The engine's figures as plain numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

_ROWS_STEP: Final = 0.05  # of the way from the old mean to the newest batch


@dataclass(slots=True)
class Tally:
    """What happened since the start; outlives a swap of models."""

    answered: int = 0
    degraded: int = 0  # answered with a narrower beam than the configured one
    shed: int = 0  # refused at once: they could not have been answered in time
    late: int = 0  # dropped after waiting: their time had run out
    withdrawn: int = 0  # nobody waited for them any more
    failed: int = 0
    batches: int = 0
    mean_rows: float = 0.0  # of recent batches
    widths: Counter[int] = field(default_factory=Counter)  # batches by their width

    def count_batch(self, rows: int, width: int) -> None:
        """A batch was begun."""
        step = _ROWS_STEP if self.batches else 1.0
        self.batches += 1
        self.widths[width] += 1
        self.mean_rows += step * (rows - self.mean_rows)


class EngineFigures(NamedTuple):
    """A tally, and what holds now."""

    waiting: int
    under_way: int
    answered: int
    degraded: int
    shed: int
    late: int
    withdrawn: int
    failed: int
    batches: int
    mean_rows: float
    widths: dict[int, int]
    speed: float  # how many times longer than when the model was loaded a batch takes
    spread: float  # mean relative deviation of a batch from its estimate
    lone_ms: float  # estimate for one request, as wide as configured
    full_ms: float  # and for the largest batch, as narrow as allowed


def figures_of(tally: Tally, **now: Any) -> EngineFigures:
    """A tally beside the numbers of this moment."""
    counted: dict[str, Any] = {one.name: getattr(tally, one.name) for one in fields(tally)}
    return EngineFigures(**{**counted, "widths": dict(sorted(tally.widths.items(), reverse=True)), **now})
