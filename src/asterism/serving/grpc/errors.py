"""Asterism's errors as gRPC statuses, and back: the code travels beside the status."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

import grpc

from asterism.core.errors import (
    AsterismError,
    ModelError,
    OverloadedError,
    RequestError,
    StoreUnavailableError,
)
from asterism.serving.grpc.proto import model_pb2

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])

CODE_KEY: Final = "asterism-code"
RETRY_AFTER_KEY: Final = "asterism-retry-after-seconds"

#: By Asterism's code; what is not listed is INTERNAL.
STATUS_OF_CODE: Final[Mapping[int, grpc.StatusCode]] = {
    10003: grpc.StatusCode.UNAVAILABLE,
    10004: grpc.StatusCode.RESOURCE_EXHAUSTED,
    10005: grpc.StatusCode.UNAVAILABLE,
    20001: grpc.StatusCode.INVALID_ARGUMENT,
    20002: grpc.StatusCode.INVALID_ARGUMENT,
    20003: grpc.StatusCode.NOT_FOUND,
    20008: grpc.StatusCode.INVALID_ARGUMENT,
    30001: grpc.StatusCode.FAILED_PRECONDITION,
    30002: grpc.StatusCode.UNAVAILABLE,
    30004: grpc.StatusCode.CANCELLED,
    30005: grpc.StatusCode.UNAVAILABLE,
}

logger = logging.getLogger(__name__)


def message_of(error: AsterismError) -> model_pb2.Error:
    """An error inside a message."""
    return model_pb2.Error(code=error.code, message=str(error), retry_after_seconds=_retry_after(error))


def error_of(message: model_pb2.Error) -> AsterismError:
    """The error that a message holds."""
    retry_after = message.retry_after_seconds if message.HasField("retry_after_seconds") else None
    return _made(message.code, message.message, retry_after)


def error_of_status(error: grpc.aio.AioRpcError, peer: str) -> AsterismError:
    """The error that a failed call tells; without a code of ours it is the other process or the way that failed."""
    told = {key: value for key, value in error.trailing_metadata() or ()}
    if CODE_KEY in told:
        retry_after = float(told[RETRY_AFTER_KEY]) if RETRY_AFTER_KEY in told else None
        return _made(int(told[CODE_KEY]), error.details() or "", retry_after)
    details = f"{peer}: {error.details()}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return OverloadedError(f"{peer} did not answer in time")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return RequestError(f"{peer} does not know the call ({error.details()}); run processes of one version")
    if error.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}:
        return RequestError(details)
    return StoreUnavailableError(f"{peer} cannot be reached ({error.details()})")


def told(handler: Handler) -> Handler:
    """A handler whose errors become statuses: ours with their code and sentence, an unforeseen one as INTERNAL."""

    @functools.wraps(handler)
    async def answering(servicer: Any, message: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await handler(servicer, message, context)
        except AsterismError as error:
            await _abort(context, error)
        except Exception as error:
            if isinstance(error, grpc.aio.AbortError | grpc.aio.BaseError):
                raise
            logger.exception("%s failed", handler.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, "something unforeseen went wrong; the log tells what")

    return answering  # type: ignore[return-value]


async def _abort(context: grpc.aio.ServicerContext, error: AsterismError) -> NoReturn:
    metadata = [(CODE_KEY, str(error.code))]
    retry_after = _retry_after(error)
    if retry_after is not None:
        metadata.append((RETRY_AFTER_KEY, f"{retry_after:.6f}"))
    status = STATUS_OF_CODE.get(error.code, grpc.StatusCode.INTERNAL)
    await context.abort(status, str(error), tuple(metadata))
    raise AssertionError("abort always raises")


def _retry_after(error: AsterismError) -> float | None:
    return error.retry_after_seconds if isinstance(error, OverloadedError) else None


def _made(code: int, sentence: str, retry_after: float | None) -> AsterismError:
    kind = next((one for one in _kinds(AsterismError) if one.code == code), ModelError)
    if issubclass(kind, OverloadedError):
        return kind(sentence, retry_after_seconds=retry_after)
    return kind(sentence)


def _kinds(root: type[AsterismError]) -> Iterator[type[AsterismError]]:
    yield root
    for one in root.__subclasses__():
        yield from _kinds(one)
