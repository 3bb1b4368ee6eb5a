"""Who asks, whether they may, how often, and how long they wait for the answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.core.errors import AsterismError, OverloadedError, RequestError
from asterism.serving.http.envelope import failure
from asterism.serving.http.errors import ForbiddenError, UnauthenticatedError
from asterism.serving.http.middleware.access import scope_needed
from asterism.serving.http.middleware.cors import Cors
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.http.middleware.limits import BATCH_COST, RequestLimits

Headers = Mapping[bytes, bytes]

NOBODY: Final = "open"  # stands for the key where none is asked for
_BATCH: Final = "/api/v1/recommend/batch"
_TIMEOUT_HEADER: Final = b"x-request-timeout-ms"
_TIMEOUT: Final = re.compile(rb"[1-9][0-9]{0,5}")
_HERE: Final = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?")
_CHALLENGE: Final = {"www-authenticate": "Bearer"}


class Guard:
    """ASGI middleware between the frame and everything else.

    Leaves `key_id` in `scope["state"]`, and `deadline` (on the clock of time.monotonic) where the caller gave one.
    """

    def __init__(
        self, app: ASGIApp, ring: KeyRing | None, limits: RequestLimits, cors: Cors, *, only_here: bool = False
    ) -> None:
        """Without a `ring` no key is asked for; `only_here` says that an open service is for this machine alone."""
        self._app = app
        self._ring = ring
        self._limits = limits
        self._cors = cors
        self._only_here = only_here
        self._known_host = b"localhost"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        headers: Headers = state["headers"]
        path: str = scope["path"]
        try:
            needed = scope_needed(scope["method"], path)
            if needed is not None:
                key_id = state["key_id"] = self._caller(scope, headers, needed)
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

    def _caller(self, scope: Scope, headers: Headers, needed: str) -> str:
        ring = self._ring
        if ring is None or ring.is_empty:
            if self._only_here:
                self._check_from_here(scope, headers)
            return NOBODY
        key = ring.key_of(_token(headers))
        if needed not in key.scopes:
            raise ForbiddenError(f"this API key lacks the scope {needed!r}, which this request needs")
        return key.key_id

    def _check_from_here(self, scope: Scope, headers: Headers) -> None:
        """A page elsewhere must not reach a service without keys through the browser of who runs it."""
        host = headers.get(b"host", self._known_host)
        if host != self._known_host:
            if not _HERE.fullmatch(host):
                raise ForbiddenError(
                    "without API keys only requests to localhost are answered; `asterism keys create` makes a key"
                )
            self._known_host = host
        origin = headers.get(b"origin")
        if origin is None or scope["method"] == "GET" or self._cors.allows(origin):
            return
        if origin.partition(b"://")[2] != host:
            raise ForbiddenError(
                "pages of other origins may not change anything here; name theirs in `origins` of [guard]"
            )

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


def _token(headers: Headers) -> bytes:
    authorization = headers.get(b"authorization")
    if authorization is None:
        token = headers.get(b"x-api-key")
        if token is None:
            raise UnauthenticatedError("no API key was given; send it as `Authorization: Bearer ast_…`")
        return token
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise UnauthenticatedError("the API key is sent as `Authorization: Bearer ast_…`, or as `X-API-Key`")
    return token.strip()


def _timeout_seconds(headers: Headers) -> float:
    said = headers[_TIMEOUT_HEADER]
    if not _TIMEOUT.fullmatch(said):
        raise RequestError("the header `x-request-timeout-ms` is a number of milliseconds, from 1 to 999999")
    return int(said) / 1000
