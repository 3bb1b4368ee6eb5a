"""The outermost layer: trace ids, security headers, limits on bodies and on the time they take to arrive."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.core.errors import RequestError
from asterism.serving.http.envelope import failure
from asterism.serving.http.errors import BodyTooLargeError, SlowRequestError

MAX_BODY_BYTES: Final = 1 << 20
BODY_TIMEOUT_SECONDS: Final = 10.0
_MAX_DISCARDED_BYTES: Final = 32 << 20

#: What every answer carries unless it says otherwise; the page loosens the policy for itself.
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$")
_NO_TRACE = "0" * 32


def trace_id_from(traceparent: str) -> str:
    """The trace id of a W3C `traceparent` header, or a new one where it holds none."""
    found = _TRACEPARENT.match(traceparent.strip().lower())
    if found and found[1] != _NO_TRACE and not traceparent.startswith("ff"):
        return found[1]
    return uuid.uuid4().hex


class RequestFrame:
    """ASGI middleware that frames every HTTP request; HEAD is answered as GET, of which the server sends no body."""

    def __init__(self, app: ASGIApp, body_timeout_seconds: float = BODY_TIMEOUT_SECONDS) -> None:
        self._app = app
        self._body_timeout_seconds = body_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        trace_id = trace_id_from(request.headers.get("traceparent", ""))
        request.state.trace_id = trace_id
        framed_send = _with_headers(send, trace_id)
        try:
            body = await _read_body(receive, self._body_timeout_seconds)
        except RequestError as error:
            await failure(request, error, {"connection": "close"})(scope, receive, framed_send)
            return
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self._app(inner, _replay(body, receive), framed_send)


async def _read_body(receive: Receive, timeout_seconds: float) -> list[Message]:
    """The messages of a body; raises `BodyTooLargeError`, `SlowRequestError`.

    What is too much is read on for a while and thrown away: a client that is still sending when the
    connection closes would see a reset in place of the answer.
    """
    messages: list[Message] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_seconds):
            while size <= _MAX_DISCARDED_BYTES and (not messages or messages[-1].get("more_body", False)):
                message = await receive()
                size += len(message.get("body", b""))
                if size > MAX_BODY_BYTES:
                    message = {**message, "body": b""}
                    messages.clear()
                messages.append(message)
    except TimeoutError:
        raise SlowRequestError(
            f"the body did not arrive within {timeout_seconds:g} s; send it without pauses"
        ) from None
    if size > MAX_BODY_BYTES:
        raise BodyTooLargeError(f"the body is larger than {MAX_BODY_BYTES} bytes; send less at once")
    return messages


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replayed() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replayed


def _with_headers(send: Send, trace_id: str) -> Send:
    async def framed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-trace-id"] = trace_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return framed
