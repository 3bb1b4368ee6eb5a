"""The widths that a beam may shrink to."""

from __future__ import annotations

from typing import Final

from asterism.core.errors import ConfigError
from asterism.serving.scheduling.cost_model import CostModel

_DEFAULT_FLOOR_SHARE: Final = 8
_LEAST_GAIN: Final = 0.03  # of a full batch's time


def width_ladder(beam: int, floor: int | None = None) -> tuple[int, ...]:
    """The configured beam, then halves down to the floor, an eighth of the beam where none is given.

    Raises `ConfigError` on a floor that is no width up to the beam.
    """
    lowest = max(1, beam // _DEFAULT_FLOOR_SHARE) if floor is None else floor
    if not 1 <= lowest <= beam:
        raise ConfigError(f"the narrowest beam is {lowest}; give one from 1 to the configured beam of {beam}")
    widths = [beam]
    while widths[-1] > lowest:
        widths.append(max(lowest, widths[-1] // 2))
    return tuple(widths)


def useful_widths(widths: tuple[int, ...], costs: CostModel, rows: int) -> tuple[int, ...]:
    """The widths without those that buy too little: width is quality, and is not given away for nothing.

    Each kept width takes at least 3 % less time for `rows` requests than the kept one before it.
    """
    kept = [widths[0]]
    for width in widths[1:]:
        if costs.seconds(rows, width) <= (1.0 - _LEAST_GAIN) * costs.seconds(rows, kept[-1]):
            kept.append(width)
    return tuple(kept)
