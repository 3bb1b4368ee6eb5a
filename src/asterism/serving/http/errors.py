"""Errors of the HTTP surface, and the status that goes with each code (the table in docs/api.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from asterism.core.errors import RequestError


class UnknownRouteError(RequestError):
    """There is no such route."""

    code = 20004


class MethodNotAllowedError(RequestError):
    """The route exists, but not with this method."""

    code = 20005


class BodyTooLargeError(RequestError):
    """The body is larger than the service reads."""

    code = 20006


class SlowRequestError(RequestError):
    """The body did not arrive in time."""

    code = 20007


class UnauthenticatedError(RequestError):
    """No API key was given, or none that holds."""

    code = 20009


class ForbiddenError(RequestError):
    """The caller is known, and may not do this."""

    code = 20010


class RateLimitedError(RequestError):
    """The caller asks more often than agreed; there is room again in `retry_after_seconds`."""

    code = 20011

    def __init__(self, reason: str, *, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


class NestingError(RequestError):
    """The body is nested deeper than any request is."""

    code = 20012


SUCCESS: Final = 0
INTERNAL_ERROR: Final = 10000

STATUS_OF_CODE: Final[Mapping[int, int]] = {
    SUCCESS: 200,
    INTERNAL_ERROR: 500,
    10001: 500,
    10002: 500,
    10003: 503,
    10004: 503,
    10005: 503,
    20001: 400,
    20002: 400,
    20003: 404,
    20004: 404,
    20005: 405,
    20006: 413,
    20007: 408,
    20008: 400,
    20009: 401,
    20010: 403,
    20011: 429,
    20012: 400,
    20013: 409,
    30001: 503,
    30002: 503,
    30003: 500,
    30004: 503,
    30005: 503,
}

_MAX_REASONS = 5


def describe_invalid(errors: Sequence[Mapping[str, Any]]) -> str:
    """One sentence over what pydantic found wrong with a request."""
    reasons = [_reason(error) for error in errors[:_MAX_REASONS]]
    more = len(errors) - len(reasons)
    return "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")


def _reason(error: Mapping[str, Any]) -> str:
    place, *path = [str(step) for step in error["loc"]] or ["request"]
    kind = error["type"]
    if kind == "json_invalid":
        return f"the body is not valid JSON: {error['ctx']['error']} at character {path[0] if path else 0}"
    if kind == "value_error" and not path:
        return str(error["msg"]).removeprefix("Value error, ")
    if not path:
        return f"the {place} must be a JSON object, sent with content-type application/json"
    name = f"`{'.'.join(path)}`"
    if kind == "extra_forbidden":
        return f"{name} is not a field of this request"
    if kind == "missing":
        return f"{name} is missing"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"{name}: {message}"
