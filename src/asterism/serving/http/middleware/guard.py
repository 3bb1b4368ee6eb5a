"""Who asks, whether they may, how often, and how long they wait for the answer."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.core.errors import AsterismError, OverloadedError, RequestError
from asterism.serving.http.envelope import failure
from asterism.serving.http.errors import UnauthenticatedError
from asterism.serving.http.middleware.access import scope_needed
from asterism.serving.http.middleware.callers import Callers, Headers
from asterism.serving.http.middleware.limits import BATCH_COST, RequestLimits

_BATCH: Final = "/api/v1/recommend/batch"
_TIMEOUT_HEADER: Final = b"x-request-timeout-ms"
_TIMEOUT: Final = re.compile(rb"[1-9][0-9]{0,5}")
_CHALLENGE: Final = {"www-authenticate": "Bearer"}


class Guard:
    """ASGI middleware between the frame and everything else.

    Leaves `key_id` in `scope["state"]`, and `deadline` (on the clock of time.monotonic) where the caller gave one.
    """

    def __init__(self, app: ASGIApp, callers: Callers, limits: RequestLimits) -> None:
        self._app = app
        self._callers = callers
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        headers: Headers = state["headers"]
        path: str = scope["path"]
        try:
            needed = scope_needed(scope["method"], path, scope["raw_path"])
            if needed is not None:
                key_id = state["key_id"] = self._callers.key_id_of(scope["method"], headers, needed)
                await self._limits.pass_one(key_id, needed, BATCH_COST if path == _BATCH else 1)
            seconds = _timeout_seconds(headers) if _TIMEOUT_HEADER in headers else None
        except UnauthenticatedError as error:
            await failure(Request(scope), error, _CHALLENGE)(scope, receive, send)
            return
        except AsterismError as error:
            await failure(Request(scope), error)(scope, receive, send)
            return
        if seconds is None:
            await self._app(scope, receive, send)
            return
        state["deadline"] = time.monotonic() + seconds
        if scope["method"] == "GET":  # what changes something is not left half done
            await self._within(seconds, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _within(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(seconds) as timeout:
                await self._app(scope, receive, noting)
        except TimeoutError:
            if has_begun or not timeout.expired():
                raise
            late = OverloadedError(
                f"there is no answer after the {seconds * 1000:.0f} ms that were given; send it again later"
            )
            await failure(Request(scope), late)(scope, receive, send)


def _timeout_seconds(headers: Headers) -> float:
    said = headers[_TIMEOUT_HEADER]
    if not _TIMEOUT.fullmatch(said):
        raise RequestError("the header `x-request-timeout-ms` is a number of milliseconds, from 1 to 999999")
    return int(said) / 1000
