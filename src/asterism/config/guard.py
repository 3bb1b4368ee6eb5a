"""Who may ask how much: `[guard]` of a deployment's file."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from asterism.config.section import Section

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:.]+\](:\d{1,5})?")


def _is_origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError("give an origin as browsers send it, like https://shop.example (small letters, no path)")
    return value


PerSecond = Annotated[float, Field(gt=0.0, le=1e7)]
Origin = Annotated[str, AfterValidator(_is_origin)]


class GuardConfig(Section):
    """Keys, limits and foreign pages; the defaults ask for a key once one exists, and limit an instance alone."""

    keys: Literal["auto", "off"] = "auto"  # off: whatever stands in front asks for them
    instance_per_second: PerSecond = 10_000.0  # recommendations that one instance answers, of all keys together
    key_per_second: dict[str, PerSecond] = Field(default_factory=dict)  # of one key over all instances, by scope
    origins: tuple[Origin, ...] = ()  # of pages elsewhere that may ask (CORS)
    slow_ms: Annotated[float, Field(gt=0.0)] = 1_000.0  # requests that take longer are told in the log
