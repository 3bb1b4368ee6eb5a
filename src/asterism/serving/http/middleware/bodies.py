"""Limits on bodies: their size, the time that they take to arrive, how deep their JSON is nested."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.core.errors import RequestError
from asterism.serving.http.envelope import failure
from asterism.serving.http.errors import BodyTooLargeError, NestingError, SlowRequestError
from asterism.serving.http.middleware.json_depth import MAX_DEPTH, is_nested_deeper
from asterism.serving.http.scopes import STREAMED

MAX_BODY_BYTES: Final = 1 << 20
BODY_TIMEOUT_SECONDS: Final = 10.0
_MAX_DISCARDED_BYTES: Final = 32 << 20


class BodyLimits:
    """ASGI middleware that lets a request through once its body is there, as `scope["state"]["body"]` too."""

    def __init__(self, app: ASGIApp, timeout_seconds: float = BODY_TIMEOUT_SECONDS) -> None:
        self._app = app
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"].startswith(STREAMED):
            await self._app(scope, receive, send)
            return
        message = _arrived(receive)
        try:
            if message is None or message.get("more_body", False):
                messages = await self._rest([message] if message is not None else [], receive)
            else:
                messages = [message]
            body = messages[0].get("body", b"") if len(messages) == 1 else _joined(messages)
            _check(body)
        except RequestError as error:
            await failure(Request(scope), error, {"connection": "close"})(scope, receive, send)
            return
        scope["state"]["body"] = body
        await self._app(scope, _replay(messages, receive), send)

    async def _rest(self, messages: list[Message], receive: Receive) -> list[Message]:
        """All messages of a body; raises `BodyTooLargeError`, `SlowRequestError`.

        What is too much is read on for a while and thrown away: a client that is still sending when the
        connection closes would see a reset in place of the answer.
        """
        size = sum(len(message.get("body", b"")) for message in messages)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while size <= _MAX_DISCARDED_BYTES and (not messages or messages[-1].get("more_body", False)):
                    message = await receive()
                    size += len(message.get("body", b""))
                    if size > MAX_BODY_BYTES:
                        message = {**message, "body": b""}
                        messages.clear()
                    messages.append(message)
        except TimeoutError:
            raise SlowRequestError(
                f"the body did not arrive within {self._timeout_seconds:g} s; send it without pauses"
            ) from None
        if size > MAX_BODY_BYTES:
            raise _too_large()
        return messages


def _arrived(receive: Receive) -> Message | None:
    """The first message if it is there already, as nearly always: a timer that never rings costs more than the rest.

    Whoever would wait is left before anything is taken, and asked anew.
    """
    steps = receive().__await__()
    try:
        next(steps)
    except StopIteration as ended:
        message: Message = ended.value
        return message
    steps.close()
    return None


def _check(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    if is_nested_deeper(body):
        raise NestingError(f"the body is nested deeper than {MAX_DEPTH} levels; send it flatter")


def _too_large() -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {MAX_BODY_BYTES} bytes; send less at once")


def _joined(messages: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replayed() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replayed
