"""The short way for the two requests that come most: no framework, no validation twice, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.core.errors import AsterismError
from asterism.serving.http.envelope import failure
from asterism.serving.http.hot.bodies import feedback_events, recommend_request
from asterism.serving.http.hot.card_shelf import CardShelf
from asterism.serving.http.hot.slate_bytes import slate_bytes
from asterism.serving.service import Service

#: Takes a body and a trace id, and gives the answer's body, or None where the request must go the long way.
Handler = Callable[[bytes, str], Awaitable[bytes | None]]

_CONTENT_TYPE: Final = b"content-type"
_JSON: Final = b"application/json"

_encode = msgspec.json.Encoder().encode


class HotRoad:
    """ASGI middleware that answers well-formed recommend and feedback requests; all else goes on to the application.

    What is malformed is explained there: by the same models that describe the API.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._shelf = CardShelf(service.catalogue, service.engine.semantic_id)
        self._handlers: dict[str, Handler] = {
            "/api/v1/recommend": self._recommend,
            "/api/v1/feedback": self._feedback,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        handler = self._handlers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None or not _is_json(scope):
            await self._app(scope, receive, send)
            return
        messages, body = await _whole_body(receive)
        try:
            answer = await handler(body, scope["state"]["trace_id"])
        except AsterismError as error:
            await failure(Request(scope), error)(scope, receive, send)
            return
        if answer is None:
            await self._app(scope, _replay(messages, receive), send)
            return
        headers = [(_CONTENT_TYPE, _JSON), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _recommend(self, body: bytes, trace_id: str) -> bytes | None:
        request = recommend_request(body)
        if request is None:
            return None
        return await slate_bytes(self._shelf, await self._service.recommender.recommend(request), trace_id)

    async def _feedback(self, body: bytes, trace_id: str) -> bytes | None:
        events = feedback_events(body, self._service.clock.now())
        if events is None:
            return None
        verdicts = await self._service.feedback.accept(events)
        rows = [{"event_id": event.event_id, "new": new} for event, new in zip(events, verdicts, strict=True)]
        accepted = sum(verdicts)
        data = {"accepted": accepted, "duplicates": len(rows) - accepted, "events": rows}
        return _encode({"code": 0, "message": "ok", "data": data, "trace_id": trace_id})


def _is_json(scope: Scope) -> bool:
    """Whether the body is said to be plain JSON; what else may be JSON, the application decides."""
    for name, value in scope["headers"]:
        if name == _CONTENT_TYPE:
            return bool(value == _JSON)
    return False


async def _whole_body(receive: Receive) -> tuple[list[Message], bytes]:
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages, b"".join([one.get("body", b"") for one in messages])


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replayed() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replayed
