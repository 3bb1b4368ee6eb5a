"""W3C Trace Context: a caller's trace is continued, with a span of our own."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from asterism.core.drawn_ids import drawn_id

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_TRACESTATE: Final = re.compile(rb"[ -~\t]{1,512}")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class TraceContext(NamedTuple):
    """Where a request stands in its trace; `traceparent` is for whom we ask in turn."""

    trace_id: str
    traceparent: str
    parent_span: str | None  # the caller's


def continued(traceparent: bytes | None) -> TraceContext:
    """The caller's trace, or a new one where the header holds none; a new trace is not sampled yet."""
    span = drawn_id(16)
    if traceparent is not None:
        found = _TRACEPARENT.fullmatch(traceparent.strip())
        if found is not None and _is_whole(found):
            trace_id = found[2].decode()
            parent = f"00-{trace_id}-{span}-{'01' if found[4][-1] in b'13579bdf' else '00'}"
            return TraceContext(trace_id, parent, found[3].decode())
    trace_id = drawn_id()
    return TraceContext(trace_id, f"00-{trace_id}-{span}-00", None)


def _is_whole(found: re.Match[bytes]) -> bool:
    version = found[1]
    known_length = version != b"00" or found[5] is None
    return version != b"ff" and found[2] != _NO_TRACE and found[3] != _NO_SPAN and known_length


def passed_on(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The `tracestate` of a request whose trace is continued, where it is one that may be sent on."""
    joined = b",".join(value for name, value in headers if name == b"tracestate")
    return joined.decode("ascii") if _TRACESTATE.fullmatch(joined) else None
