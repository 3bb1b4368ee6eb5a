"""The outermost ASGI layer: counts and times every request, whoever answers it."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.serving.telemetry.families import Observations
from asterism.serving.telemetry.gateway_metrics import GatewayMetrics
from asterism.serving.telemetry.routes import OTHER, RouteLabels

_CODE = re.compile(rb'\{"code":([123]\d{4}),')  # the envelope's first field, by whomever it was written
_GONE: Final = 499  # what a client that left before its answer counts as


_STARTED: Final = "asterism.started"


class BehindGuard:
    """Observes how long a request took to come here from `RequestTelemetry`."""

    def __init__(self, app: ASGIApp, kept: Observations) -> None:
        self._app = app
        self._observe = kept.observe

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection; no coroutine of its own."""
        started = scope.get(_STARTED)
        if started is not None:
            self._observe(perf_counter() - started)
        return self._app(scope, receive, send)


class RequestTelemetry:
    """Costs about a microsecond: no task, no context, no awaiting of its own beyond the application's."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics, routes: RouteLabels) -> None:
        self._app = app
        self._metrics = metrics
        self._requests = metrics.requests
        self._label = routes.label

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        error_is_counted = False
        count_error = self._count_error

        def noting(message: Message) -> Awaitable[None]:
            nonlocal status, error_is_counted
            if not status:
                status = message.get("status", 0)
            elif status >= 400 and not error_is_counted:
                error_is_counted = True  # a body may come in parts; the code is in the first
                count_error(message)
            return send(message)

        requests = self._requests
        requests.in_progress += 1
        scope[_STARTED] = started = perf_counter()
        try:
            await self._app(scope, receive, noting)
        finally:
            requests.in_progress -= 1
            requests.observe(self._label(scope["path"]), scope["method"], status or _GONE, perf_counter() - started)

    def _count_error(self, message: Message) -> None:
        found = _CODE.match(message.get("body", b""))
        if found is not None:
            self._metrics.count_error(found[1].decode())
        else:
            self._metrics.count_error(OTHER)
