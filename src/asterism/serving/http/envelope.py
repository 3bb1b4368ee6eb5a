"""The one envelope of every answer: `{code, message, data, trace_id}`."""

from __future__ import annotations

import logging
import re
from math import ceil
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from asterism.core.errors import AsterismError, RequestError
from asterism.serving.http.errors import (
    INTERNAL_ERROR,
    STATUS_OF_CODE,
    SUCCESS,
    MethodNotAllowedError,
    UnknownRouteError,
    describe_invalid,
)

logger = logging.getLogger(__name__)

_WAITING_HELPS: Final = frozenset({429, 503})

_encode = msgspec.json.Encoder().encode


class EnvelopeResponse(Response):
    """An envelope as JSON."""

    media_type = "application/json"

    def __init__(
        self, code: int, message: str, data: Any, trace_id: str, headers: dict[str, str] | None = None
    ) -> None:
        body = _encode({"code": code, "message": message, "data": data, "trace_id": trace_id})
        super().__init__(body, STATUS_OF_CODE[code], headers)


def trace_id_of(request: Request) -> str:
    """The trace id that the outermost layer gave the request."""
    return str(request.state.trace_id)


def success(request: Request, data: Any) -> EnvelopeResponse:
    """An answer that worked; `data` is plain values, dataclasses or named tuples."""
    return EnvelopeResponse(SUCCESS, "ok", data, trace_id_of(request))


def failure(request: Request, error: AsterismError, headers: dict[str, str] | None = None) -> EnvelopeResponse:
    """An answer that did not, with the error's own code and sentence, and when to ask again where that helps."""
    printable = str(error).encode("utf-8", "backslashreplace").decode()
    if STATUS_OF_CODE[error.code] in _WAITING_HELPS:
        seconds = max(1, ceil(getattr(error, "retry_after_seconds", None) or 1))
        headers = {"retry-after": str(seconds), **(headers or {})}
    return EnvelopeResponse(error.code, printable, None, trace_id_of(request), headers)


def install_error_handlers(app: FastAPI) -> None:
    """Put every error of an application into the envelope."""

    @app.exception_handler(AsterismError)
    async def on_known(request: Request, error: AsterismError) -> Response:
        return failure(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return failure(request, RequestError(describe_invalid(error.errors())))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        headers = (
            {"allow": allowed_methods(app, request.url.path)} if error.status_code == 405 else dict(error.headers or {})
        )
        return failure(request, _known_error(request, error), headers)

    @app.exception_handler(Exception)
    async def on_unknown(request: Request, error: Exception) -> Response:
        return unforeseen(request, error)


def allowed_methods(app: FastAPI, path: str) -> str:
    """The methods that the description knows for a path, of which the router names those of one route alone."""
    for template, methods in app.openapi()["paths"].items():
        pattern = ".+".join(re.escape(part) for part in re.split(r"\{\w+\}", template))
        if re.fullmatch(pattern, path, re.DOTALL):
            return ", ".join(sorted(method.upper() for method in methods))
    return "GET"


def unforeseen(request: Request, error: Exception) -> EnvelopeResponse:
    """The answer where nobody knows what went wrong; the log is told all of it."""
    trace_id = trace_id_of(request)
    logger.error("request %s failed", trace_id, exc_info=error)
    return EnvelopeResponse(
        INTERNAL_ERROR, f"something went wrong here; the log says what, under trace id {trace_id}", None, trace_id
    )


def _known_error(request: Request, error: HTTPException) -> AsterismError:
    path = request.url.path
    if error.status_code == 404:
        return UnknownRouteError(f"there is no {path}; /openapi.json lists what there is")
    if error.status_code == 405:
        return MethodNotAllowedError(f"{path} does not take {request.method}; /openapi.json says what it takes")
    return RequestError("the body cannot be read; send JSON as UTF-8, not nested deeper than needed")
