"""The short way for the two requests that come most: no framework, no validation twice, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from asterism.core.errors import AsterismError
from asterism.serving.http.envelope import failure
from asterism.serving.http.hot.bodies import feedback_events, recommend_request
from asterism.serving.http.hot.card_shelf import CardShelf
from asterism.serving.http.hot.slate_bytes import slate_bytes
from asterism.serving.service import Service

#: Takes what the gate has read, and gives the answer's body, or None where the request must go the long way.
Handler = Callable[[Mapping[str, Any]], Awaitable[bytes | None]]

_CONTENT_TYPE: Final = b"content-type"
_JSON: Final = b"application/json"

_encode = msgspec.json.Encoder().encode


class HotRoad:
    """ASGI middleware that answers well-formed recommend and feedback requests; all else goes on to the application.

    What is malformed is explained there: by the same models that describe the API. Stands behind the gate, which has
    read headers, body and trace id.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._shelf = CardShelf(service.catalogue, service.engine.semantic_id, service.recommender.item_ids)
        self._encoded_in = service.telemetry.metrics.stages.encode.observe
        self._handlers: dict[str, Handler] = {
            "/api/v1/recommend": self._recommend,
            "/api/v1/feedback": self._feedback,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        handler = self._handlers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None or scope["state"]["headers"].get(_CONTENT_TYPE) != _JSON:
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        try:
            answer = await handler(state)
        except AsterismError as error:
            await failure(Request(scope), error)(scope, receive, send)
            return
        if answer is None:
            await self._app(scope, receive, send)
            return
        headers = [(_CONTENT_TYPE, _JSON), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _recommend(self, state: Mapping[str, Any]) -> bytes | None:
        request = recommend_request(state["body"])
        if request is None:
            return None
        if "deadline" in state:
            request = replace(request, deadline=state["deadline"])
        answer = await self._service.recommender.recommend(request)
        started = perf_counter()
        written = await slate_bytes(self._shelf, answer, state["trace_id"])
        self._encoded_in(perf_counter() - started)
        return written

    async def _feedback(self, state: Mapping[str, Any]) -> bytes | None:
        events = feedback_events(state["body"], self._service.clock.now())
        if events is None:
            return None
        verdicts = await self._service.feedback.accept(events)
        rows = [{"event_id": event.event_id, "new": new} for event, new in zip(events, verdicts, strict=True)]
        accepted = sum(verdicts)
        data = {"accepted": accepted, "duplicates": len(rows) - accepted, "events": rows}
        return _encode({"code": 0, "message": "ok", "data": data, "trace_id": state["trace_id"]})
