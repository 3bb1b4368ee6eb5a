"""How routes are told in the OpenAPI description: an example of the answer, and of each error they may give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asterism.serving.http.answers import ErrorEnvelope
from asterism.serving.http.errors import STATUS_OF_CODE, SUCCESS

Responses = dict[int | str, dict[str, Any]]

TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"

#: One sentence as it may stand in an answer, by code.
EXAMPLES: Final[Mapping[int, str]] = {
    10003: "state/events: the log cannot be written (no space left on device); make room on the disk",
    10004: "10000 writes wait for the disk already; send this again later",
    10005: "PostgreSQL at db:5432 cannot be reached; start it, or correct its URL",
    20001: "`count`: should be less than or equal to 100",
    20002: "items, line 7, field `price`: 'cheap' is no float; correct it",
    20003: "item 'i7' is not in the catalogue",
    20006: "the body is larger than 1048576 bytes; send less at once",
    20008: "the cursor is garbled; send the request again without one to begin anew",
    20013: "item 'i7' exists already; replace it with PUT, or change it with PATCH",
    30001: "bundle.json: the manifest is missing; name the folder of a bundle",
    30002: "the engine is not ready: it is loading; answers are popular items meanwhile",
}
_OTHERS: Final = (
    "An error in the envelope: among others 408 (the body came too slowly), 413 (it is too large), "
    "429 (too many requests; `Retry-After` says when to come back) and 500. docs/api.md lists the codes."
)


def enveloped(data: object) -> dict[str, Any]:
    """The envelope around an example of `data`."""
    return {"code": SUCCESS, "message": "ok", "data": data, "trace_id": TRACE_ID}


def answers_of(example: object, *codes: int, status: int = 200) -> Responses:
    """What a route answers: an example of its data, and the errors of its own."""
    told: Responses = {status: {"content": {"application/json": {"example": enveloped(example)}}}}
    return {**told, **errors_of(*codes)}


def errors_of(*codes: int) -> Responses:
    """The errors of these codes by status, and what any route may answer besides."""
    told: Responses = {"default": {"model": ErrorEnvelope, "description": _OTHERS}}
    for status in dict.fromkeys(STATUS_OF_CODE[code] for code in codes):
        examples = {
            str(code): {"value": {"code": code, "message": EXAMPLES[code], "data": None, "trace_id": TRACE_ID}}
            for code in codes
            if STATUS_OF_CODE[code] == status
        }
        told[status] = {
            "model": ErrorEnvelope,
            "description": f"Code {' or '.join(examples)}",
            "content": {"application/json": {"examples": examples}},
        }
        if status in {429, 503}:
            told[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return told
