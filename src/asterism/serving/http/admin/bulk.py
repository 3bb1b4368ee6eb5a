"""Catalogue and users as JSON lines: read as they arrive, written as they are read, in parts of a thousand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from asterism.core.errors import DataError, RequestError
from asterism.serving.http.admin import answers, examples
from asterism.serving.http.answers import Envelope
from asterism.serving.http.described import answers_of, errors_of
from asterism.serving.http.envelope import success
from asterism.serving.http.errors import BodyTooLargeError, SlowRequestError
from asterism.serving.service import Service
from asterism.stores.json_lines import item_line, stored_item, user_line, user_of

LINES: Final = "application/x-ndjson"
_TAKEN: Final = (LINES, "application/jsonl", "application/jsonlines")
_MAX_LINE_BYTES: Final = 1 << 20
_MAX_BYTES: Final = 1 << 30
_PART: Final = 1_000
_NAMED: Final = 100
_PAUSE_SECONDS: Final = 30.0

OnError = Annotated[Literal["stop", "skip"], Query()]


def bulk_routes(service: Service) -> APIRouter:
    """Import and export."""
    router = APIRouter(prefix="/admin/api/v1", tags=["admin"])
    _add(router, "items", stored_item, service.catalogue.restore, lambda: map(item_line, service.catalogue.export()))
    _add(router, "users", user_of, service.users.upsert, lambda: map(user_line, service.users.export()))
    return router


def _add(
    router: APIRouter,
    name: str,
    parse: Callable[[dict[str, Any]], Any],
    keep: Callable[[Sequence[Any]], None],
    rows: Callable[[], Iterable[Mapping[str, Any]]],
) -> None:
    body = {"content": {LINES: {"schema": {}}}, "required": True}

    @router.post(
        f"/import/{name}",
        response_model=Envelope[answers.ImportData],
        responses=answers_of(examples.IMPORT, 20001, 20002, 20006, 10003, 10005),
        summary=f"Add or replace {name}, one a line",
        openapi_extra={"requestBody": body},
    )
    async def imported(request: Request, on_error: OnError = "stop") -> Response:
        said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if said not in _TAKEN:
            raise RequestError(f"{name} are sent as JSON lines, with content-type {LINES}")
        taker = _Taker(name, parse, keep, on_error == "skip")
        async for lines in _parts(request):
            await asyncio.to_thread(taker.take, lines)
        return success(request, taker.data())

    @router.get(
        f"/export/{name}",
        response_class=StreamingResponse,
        responses={200: {"content": {LINES: {}}}, **errors_of(10005)},
        summary=f"All {name}, one a line",
    )
    async def exported() -> Response:
        return StreamingResponse(_written(rows()), media_type=LINES)


class _Taker:
    """Takes lines part by part; the lines before a bad one are kept."""

    def __init__(
        self,
        name: str,
        parse: Callable[[dict[str, Any]], Any],
        keep: Callable[[Sequence[Any]], None],
        skip: bool,
    ) -> None:
        self._name = name
        self._parse = parse
        self._keep = keep
        self._skip = skip
        self._line = 0
        self._imported = 0
        self._refused = 0
        self._named: list[dict[str, Any]] = []

    def take(self, lines: Sequence[bytes]) -> None:
        """Keep what is good; raises `DataError` that names the first bad line, where bad ones are not skipped."""
        good = []
        try:
            for line in lines:
                self._line += 1
                if line.strip():
                    try:
                        good.append(self._parse(_object(line)))
                    except DataError as error:
                        self._refuse(error)
        finally:
            if good:
                self._keep(good)
                self._imported += len(good)

    def data(self) -> dict[str, Any]:
        """An `ImportData`."""
        return {"imported": self._imported, "refused": self._refused, "lines": self._named}

    def _refuse(self, error: DataError) -> None:
        if not self._skip:
            reason = f"{error.reason}; the lines before it are imported"
            raise DataError(reason, file=self._name, line=self._line, field=error.field) from None
        self._refused += 1
        if len(self._named) < _NAMED:
            self._named.append({"line": self._line, "reason": str(error)})


async def _parts(request: Request) -> AsyncIterator[list[bytes]]:
    """Lines as they arrive, some at a time; raises `BodyTooLargeError` behind those before, `SlowRequestError`."""
    chunks = request.stream().__aiter__()
    rest, size, given = b"", 0, 0
    waiting: list[bytes] = []
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks), _PAUSE_SECONDS)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise SlowRequestError(f"nothing arrived for {_PAUSE_SECONDS:g} s; send it without pauses") from None
        size += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        within = list(takewhile(lambda one: len(one) <= _MAX_LINE_BYTES, [*lines, rest]))
        if len(within) <= len(lines) or size > _MAX_BYTES:
            before = [*waiting, *within[: len(lines)]]
            yield before
            raise _too_large(given + len(before), size)
        waiting += lines
        while len(waiting) >= _PART:
            yield waiting[:_PART]
            del waiting[:_PART]
            given += _PART
    yield [*waiting, rest]


def _too_large(lines: int, size: int) -> BodyTooLargeError:
    """Why no more than the first `lines` were taken of what is `size` bytes so far."""
    if size > _MAX_BYTES:
        return BodyTooLargeError(f"all is larger than {_MAX_BYTES} bytes; send what comes after line {lines} by itself")
    return BodyTooLargeError(
        f"line {lines + 1} is larger than {_MAX_LINE_BYTES} bytes; shorten it; the lines before it are imported"
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is no JSON ({str(error)[:100]}); write one object a line") from None
    if not isinstance(raw, dict):
        raise DataError("it is no JSON object; write one a line")
    for name, value in raw.items():
        for one in (name, value, *(value if isinstance(value, list) else ())):
            if isinstance(one, str) and not _is_text(one):
                raise DataError("it holds a character that no database keeps; correct it", field=_shown(name))
            if isinstance(one, int) and abs(one) > 2**53:
                raise DataError("it is larger than a number may be; correct it", field=_shown(name))
    return raw


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _is_text(value: str) -> bool:
    return "\x00" not in value and value == value.encode("utf-8", "replace").decode()


def _shown(name: str) -> str:
    return name[:64].encode("utf-8", "backslashreplace").decode()


def _written(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    part: list[bytes] = []
    for row in rows:
        part.append(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        if len(part) == _PART:
            yield b"".join(part)
            part.clear()
    yield b"".join(part)
