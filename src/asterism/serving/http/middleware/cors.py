"""Pages elsewhere: only those of configured origins may ask, and no cookie goes either way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

Headers = list[tuple[bytes, bytes]]

#: What a page elsewhere may send, told once and remembered by its browser for ten minutes.
PREFLIGHT_HEADERS: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, traceparent, tracestate, x-api-key, x-request-timeout-ms",
    ),
    (b"access-control-max-age", b"600"),
]
_TOLD: Final = b"retry-after, traceparent, x-trace-id"
_VARY: Final = (b"vary", b"origin")


class Cors:
    """Which headers go to which origin."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def allows(self, origin: bytes | None) -> bool:
        """Whether pages of this origin may ask."""
        return origin in self._origins

    def is_preflight(self, method: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a browser asks on behalf of a page elsewhere what it may ask; it sends no key with that."""
        return (
            method == "OPTIONS" and b"access-control-request-method" in headers and self.allows(headers.get(b"origin"))
        )

    def headers_for(self, origin: bytes | None) -> Headers:
        """What an answer carries; that it depends on the origin is told to caches in any case."""
        if not self._origins:
            return []
        if not self.allows(origin):
            return [_VARY]
        return [
            (b"access-control-allow-origin", origin or b""),
            (b"access-control-expose-headers", _TOLD),
            _VARY,
        ]
