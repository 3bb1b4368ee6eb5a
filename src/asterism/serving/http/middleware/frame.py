"""The outermost layer: every answer is of a trace, carries the security headers, and is an envelope even for a bug."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.core.errors import OverloadedError
from asterism.serving.http.envelope import failure, unforeseen
from asterism.serving.http.middleware.cors import PREFLIGHT_HEADERS, Cors
from asterism.serving.http.middleware.limits import TokenBucket
from asterism.serving.http.middleware.security_headers import secured
from asterism.serving.http.middleware.trace_context import continued, passed_on
from asterism.serving.logs import TRACE_ID
from asterism.stores.rate_limits import Rate

logger = logging.getLogger("asterism.access")

_ROOM: Final = re.compile(r"/(admin/)?api/v1/[a-z\-]{1,20}(?=/|$)")
_PROBES: Final = frozenset({"/healthz", "/readyz"})  # for whom "not yet" is an answer
_LINES: Final = Rate(per_second=2.0, burst=20)  # of the log, however much goes wrong


class RequestFrame:
    """ASGI middleware; HEAD is answered as GET, of which the server sends no body.

    What it learns of a request lies in `scope["state"]`: `headers` (a dict), `trace_id`, `traceparent` and
    `tracestate` for whom we ask in turn. Only failures and slow requests are logged, and not all of many.
    """

    def __init__(self, app: ASGIApp, cors: Cors | None = None, slow_seconds: float = 1.0) -> None:
        self._app = app
        self._cors = cors or Cors(())
        self._slow_seconds = slow_seconds
        self._lines = TokenBucket(_LINES, time.monotonic)
        self._untold = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        state = scope.setdefault("state", {})
        context = continued(headers.get(b"traceparent"))
        state["headers"] = headers
        state["trace_id"] = context.trace_id
        state["traceparent"] = context.traceparent
        if context.parent_span is not None and b"tracestate" in headers:
            state["tracestate"] = passed_on(scope["headers"])
        TRACE_ID.set(context.trace_id)
        origin = headers.get(b"origin")
        own = [
            (b"x-trace-id", context.trace_id.encode()),
            (b"traceparent", context.traceparent.encode()),
            *self._cors.headers_for(origin),
        ]
        status = 0

        def framed(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = secured([*message.get("headers", ()), *own])
            return send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        try:
            if self._cors.is_preflight(scope["method"], headers):
                await _answer_preflight(framed)
            else:
                await self._app(scope, receive, framed)
        except (Exception, asyncio.CancelledError) as error:
            if not status:  # else it was answered and logged further in
                await _answer_to(Request(scope), error)(scope, receive, framed)
        took = time.perf_counter() - started
        if (status >= 500 or took > self._slow_seconds) and scope["path"] not in _PROBES:
            self._tell(scope, status, took)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        if self._lines.take(1):
            self._untold += 1
            return
        more = f"; {self._untold} more like it were not told" if self._untold else ""
        self._untold = 0
        logger.warning("%s %s: %d after %.0f ms%s", scope["method"], _room(scope["path"]), status, seconds * 1000, more)


async def _answer_preflight(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": PREFLIGHT_HEADERS})
    await send({"type": "http.response.body", "body": b""})


def _answer_to(request: Request, error: Exception | asyncio.CancelledError) -> Response:
    if isinstance(error, asyncio.CancelledError):  # the server stops, and has waited for as long as it does
        return failure(request, OverloadedError("this gateway is stopped before it has an answer; send it again"))
    return unforeseen(request, error)


def _room(path: str) -> str:
    """The beginning of a path: what follows may be somebody's id."""
    found = _ROOM.match(path)
    return found[0] if found else "elsewhere"
