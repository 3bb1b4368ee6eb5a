"""Spans as the service makes them, apart from any library of traces; what is current is known by its `traceparent`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from enum import Enum
from typing import Final, Protocol

#: The span that this code runs in, as W3C trace context; None where none is recorded.
current_trace: Final[ContextVar[str | None]] = ContextVar("current_trace", default=None)

TRACEPARENT: Final = "traceparent"  # the name of the header, and of the key in gRPC's metadata
_TRACE_CONTEXT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_NO_VERSION: Final = "ff"
_SAMPLED: Final = 1


class SpanKind(Enum):
    """Which side of a call a span stands on."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


class Span(Protocol):
    """Work under way."""

    @property
    def traceparent(self) -> str:
        """What names this span to those it calls."""
        ...

    def note(self, name: str, value: str | int | float | bool) -> None:
        """Say something about the work; never who asked, or for what."""
        ...


class OpenSpan(Span, Protocol):
    """Work that ends elsewhere than it began."""

    def end(self, error: str | None = None) -> None:
        """The work is done, or failed with an error of this kind."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them away, off the path of requests."""

    def chooses(self) -> bool:
        """Whether a request that nobody else traces shall be traced."""
        ...

    def begin(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> OpenSpan:
        """A span that somebody ends; below `parent`, or the first of its trace."""
        ...

    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> AbstractContextManager[Span]:
        """As `begin`, around a block: it is `current_trace` meanwhile, and tells the kind of the block's error."""
        ...

    def close(self) -> None:
        """Send what waits, as far as that takes no longer than a moment."""
        ...


def is_sampled(traceparent: str) -> bool | None:
    """Whether a caller records the trace; None where the text is no trace context."""
    found = _TRACE_CONTEXT.fullmatch(traceparent)
    if found is None or traceparent.startswith(_NO_VERSION):
        return None
    return bool(int(found[1], 16) & _SAMPLED)
