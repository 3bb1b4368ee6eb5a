"""The span of a request: it stands above all others, and lends its trace id to the answer's envelope."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.serving.telemetry.routes import METHODS, OTHER, RouteLabels
from asterism.serving.telemetry.spans import SpanKind, Tracer, is_sampled

#: In the state of a request's scope: the draw was made already, and it is to be traced.
CHOSEN: Final = "asterism.chosen"
_HEADER: Final = b"traceparent"


class RequestTracing:
    """ASGI middleware that is put in place only where traces are made.

    A request whose caller decided keeps that decision; of the others a share is chosen.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer, routes: RouteLabels) -> None:
        self._app = app
        self._tracer = tracer
        self._label = routes.label

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = _parent(scope)
        sampled = is_sampled(parent) if parent is not None else None
        if sampled is None:
            sampled = CHOSEN in scope.get("state", ()) or self._tracer.chooses()
            parent = None
        if not sampled:
            await self._app(scope, receive, send)
            return
        await self._traced(scope, receive, send, parent)

    async def _traced(self, scope: Scope, receive: Receive, send: Send, parent: str | None) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = self._label(scope["path"])
        attributes = {"http.request.method": method, "http.route": route}
        with self._tracer.span(f"{method} {route}", SpanKind.SERVER, parent=parent, attributes=attributes) as span:

            def noting(message: Message) -> Awaitable[None]:
                if message["type"] == "http.response.start":
                    span.note("http.response.status_code", message["status"])
                return send(message)

            headers = [one for one in scope["headers"] if one[0] != _HEADER]
            headers.append((_HEADER, span.traceparent.encode()))
            await self._app({**scope, "headers": headers}, receive, noting)


def _parent(scope: Scope) -> str | None:
    """The header's text; several of them are none."""
    found = [value for name, value in scope["headers"] if name == _HEADER]
    return found[0].decode("latin-1").strip() if len(found) == 1 else None
