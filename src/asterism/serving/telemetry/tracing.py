"""Whether traces are made at all: off, and without cost, unless the environment names a collector."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

from asterism.core.errors import ConfigError, MissingDependencyError
from asterism.serving.telemetry.spans import Tracer

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
SHARE: Final = "OTEL_TRACES_SAMPLER_ARG"
DEFAULT_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where spans go, and which share of the requests that nobody else traces begins a trace."""

    endpoint: str
    share: float = DEFAULT_SHARE


def trace_settings(environment: Mapping[str, str]) -> TraceSettings | None:
    """What the environment says, None where it names no collector; raises `ConfigError`."""
    endpoint = environment.get(ENDPOINT, "").strip()
    if not endpoint:
        return None
    where = urlsplit(endpoint)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise ConfigError(f"{ENDPOINT} is {endpoint!r}; give the collector's gRPC address, as http://127.0.0.1:4317")
    said = environment.get(SHARE, str(DEFAULT_SHARE))
    try:
        share = float(said)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{SHARE} is {said!r}; give the share of requests to trace, from 0 to 1")
    return TraceSettings(endpoint, share)


def open_tracer(settings: TraceSettings, role: str) -> Tracer:
    """A tracer of one process; raises `MissingDependencyError`."""
    try:
        module = importlib.import_module("asterism.serving.telemetry.otel")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("asterism"):
            raise
        raise MissingDependencyError(
            f"{ENDPOINT} asks for traces, and {error.name} is not installed; pip install 'asterism[traces]'"
        ) from error
    return cast(Tracer, module.OtelTracer(settings.endpoint, role, settings.share))
