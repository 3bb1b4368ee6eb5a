"""Heads of requests that came before: what they said once they say again, byte for byte, so nobody parses them anew.

Only a head that the server's own parser has read is known here; there is no second reading of HTTP that could differ
from the first. What may be another each time is where a trace stands (hexadecimal digits in place of others, as many as
before), and the visible characters behind names that nobody here reads: what proxies tell of a request or a visitor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from asterism.serving.http.middleware.callers import Headers

END: Final = b"\r\n\r\n"
_MOST_HEADS: Final = 1024
_MOST_BYTES: Final = 2048  # of one
_MOST_SEEN: Final = 4096
_JSON: Final = b"application/json"
_LENGTH: Final = b"content-length"
_TRACE: Final = b"traceparent"
_PLACE: Final = re.compile(rb"\r\ntraceparent: (00-[0-9a-f]{32}-[0-9a-f]{16}-0[01])\r\n")
#: Whoever says one of these wants something of the connection, of the trace, or of the time that an answer takes.
_PARTICULAR: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade", b"tracestate", b"x-request-timeout-ms"})
#: What is another one with each request or visitor, and read by nothing that a plain request meets.
UNREAD: Final = frozenset(
    b"cookie forwarded x-forwarded-for x-real-ip true-client-ip cf-connecting-ip cf-ray x-request-id x-correlation-id "
    b"x-amzn-trace-id x-cloud-trace-context".split()
)
_UNREAD_LINE: Final = re.compile(rb"(?i)(\r\n(?:%b)):[ -~]*(?=\r\n)" % b"|".join(sorted(UNREAD)))


class Head(NamedTuple):
    """What a head said, but for the trace that it may name."""

    headers: Headers
    body_bytes: int
    own_lines: bytes  # of the answer, which follow from the head


class Known(NamedTuple):
    """A head, and the `traceparent` that it holds this time."""

    head: Head
    traceparent: bytes | None


class Heads:
    """The heads of plain requests to one path, kept from their second time on; which came longest ago leaves first."""

    def __init__(
        self, path: str, own_lines: Callable[[Headers], bytes], may_enter: Callable[[Headers], bool] = lambda _: True
    ) -> None:
        """`own_lines` are those of an answer that depend on its request's headers.

        Of whoever may not enter nothing is learnt, so that strangers cannot drive out what is known.
        """
        self._path = path
        self._may_enter = may_enter
        self._own_lines = own_lines
        self._heads: dict[bytes, Head] = {}
        self._seen: set[int] = set()

    def get(self, head: bytes) -> Known | None:
        """What a head says, its empty line included."""
        bare, trace = _without_trace(head)
        known = self._heads.pop(bare, None)
        if known is None and len(bare) <= _MOST_BYTES:
            bare = _without_unread(bare)
            known = self._heads.pop(bare, None)
        if known is None:
            return None
        self._heads[bare] = known  # behind those that came longer ago
        return Known(known, trace)

    def learn(self, data: bytes, scope: Any, *, keeps_alive: bool) -> None:
        """Remember the head of a whole request, which the parser made this ASGI scope of, if it is a plain one."""
        if scope["method"] != "POST" or scope["path"] != self._path:
            return
        whole = data[: data.find(END) + len(END)]
        head, trace = _without_trace(whole)
        if len(head) > _MOST_BYTES or (head := _without_unread(head)) in self._heads:
            return
        headers = dict(scope["headers"])
        is_plain = (
            keeps_alive
            and scope["http_version"] == "1.1"
            and scope["raw_path"] == self._path.encode()
            and not scope["query_string"]
            and len(headers) == len(scope["headers"])
            and headers.get(b"content-type") == _JSON
            and headers.get(_LENGTH) == b"%d" % (len(data) - len(whole))
            and headers.pop(_TRACE, None) == trace
            and _PARTICULAR.isdisjoint(headers)
        )
        if not (is_plain and self._may_enter(headers) and self._was_seen(head)):
            return
        told = {name: value for name, value in headers.items() if name not in UNREAD}  # what is said of one visitor
        self._heads[head] = Head(told, len(data) - len(whole), self._own_lines(told))
        if len(self._heads) > _MOST_HEADS:
            del self._heads[next(iter(self._heads))]

    def _was_seen(self, head: bytes) -> bool:
        """Whoever sends another head each time must not drive out those that come again."""
        mark = hash(head)
        if mark in self._seen:
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return False


def _without_unread(head: bytes) -> bytes:
    """A head without the values that nobody reads."""
    return _UNREAD_LINE.sub(rb"\1:", head)


def _without_trace(head: bytes) -> tuple[bytes, bytes | None]:
    """A head with the value of its first `traceparent` cut out, and that value, where it is one of the usual form."""
    found = _PLACE.search(head) if _TRACE in head else None
    return (head, None) if found is None else (head[: found.start(1)] + head[found.end(1) :], found[1])
