"""Requests that a kept page answers, from the bytes of the connection to the bytes of the answer: no task, no scope.

Whatever is not quite so plain goes the ordinary way, and nothing was counted for it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any, Final

from asterism.core.errors import AsterismError
from asterism.serving.http.gate import Entrance
from asterism.serving.http.hot.bodies import page_key
from asterism.serving.http.hot.heads import END, Heads, Known
from asterism.serving.http.hot.slate_bytes import page_bytes
from asterism.serving.http.middleware.callers import Headers
from asterism.serving.http.middleware.security_headers import secured
from asterism.serving.http.middleware.trace_context import continued
from asterism.serving.http.scopes import RECOMMEND
from asterism.serving.service import Service

PATH: Final = "/api/v1/recommend"
#: Stands for an answer: the request is to be traced, so it goes the ordinary way, and is not drawn for again.
TRACED: Final = b""

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-trace-id: %b\r\ntraceparent: %b\r\n%b\r\n%b"
)


class PageLane:
    """Answers what can be answered at once; for one event loop, and for states that are in this process."""

    def __init__(self, service: Service, entrance: Entrance) -> None:
        self._recommender = service.recommender
        self._callers, self._limits, self._cors = entrance
        self._tracer = service.telemetry.tracer
        metrics = service.telemetry.metrics
        self._state_in = metrics.stages.state.observe
        self._guarded_in = metrics.stages.guard.observe
        self._encoded_in = metrics.stages.encode.observe
        self._answered_in = metrics.requests.observe
        self._heads = Heads(PATH, self._own_lines, self._may_enter)
        self._read_server(())

    def learn(self, data: bytes, scope: Any, *, keeps_alive: bool) -> None:
        """See `Heads.learn`."""
        self._heads.learn(data, scope, keeps_alive=keeps_alive)

    def answer(self, data: bytes, server_headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """The answer to a whole request, with the headers that the server adds to each, as they are made anew each
        second; None, or `TRACED`, where the ordinary way has to be gone.
        """
        end = data.find(END) + len(END)
        known = self._heads.get(data[:end])
        if known is None or len(data) != end + known.head.body_bytes:
            return None
        if server_headers is not self._server_headers or len(server_headers) != self._server_count:
            self._read_server(server_headers)
        if self._is_ending:
            return None
        try:
            return self._answer(known, data[end:])
        except AsterismError:
            return None  # the ordinary way says what is wrong

    def _answer(self, known: Known, body: bytes) -> bytes | None:
        started = perf_counter()
        head, traceparent = known
        key_id = self._callers.key_id_of("POST", head.headers, RECOMMEND)
        looked = perf_counter()
        key = page_key(body)  # a body that is read has no depth that a limit would mind
        page = self._recommender.page_for(key) if key is not None else None
        if page is None or page.answer.encoded.parts is None:
            return None
        found = perf_counter()
        context = continued(traceparent)
        if self._tracer is not None:
            if context.parent_span is None and self._tracer.chooses():
                return TRACED
            if context.traceparent[-1] == "1":  # its caller records it
                return None
        if not self._limits.pass_at_once(key_id, RECOMMEND):
            return None
        passed = perf_counter()
        attribution_id = self._recommender.again(page)
        made = perf_counter()
        written = page_bytes(page, attribution_id, (made - started) * 1000, context.trace_id)
        trace = context.trace_id.encode(), context.traceparent.encode()
        whole = _HEAD % (self._server_lines, len(written), *trace, head.own_lines, written)
        ended = perf_counter()
        self._guarded_in(passed - found + looked - started)
        self._state_in(found - looked)
        self._encoded_in(ended - made)
        self._answered_in(PATH, "POST", 200, ended - started)
        return whole

    def _may_enter(self, headers: Headers) -> bool:
        try:
            self._callers.key_id_of("POST", headers, RECOMMEND)
        except AsterismError:
            return False
        return True

    def _own_lines(self, headers: Headers) -> bytes:
        return _lines(secured(self._cors.headers_for(headers.get(b"origin"))))

    def _read_server(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._server_headers, self._server_count = headers, len(headers)
        self._server_lines = _lines(headers)
        self._is_ending = (b"connection", b"close") in headers


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % one for one in headers)
