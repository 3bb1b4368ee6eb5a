"""What the service and its engine process say to each other: MessagePack behind a four-byte length."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import BinaryIO, Final

import msgspec

from asterism.core.semantic_id import SemanticId
from asterism.serving.ports import EngineAnswer, EngineRequest

LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests to answer; `unavailable` is sent when it changed, and then holds for later batches too."""

    requests: tuple[EngineRequest, ...]
    unavailable: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The engine is loaded, or the reason why it cannot be."""

    semantic_ids: dict[str, SemanticId]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers to a batch, or the reason why there are none."""

    answers: tuple[EngineAnswer, ...]
    error: str | None = None


_encoder = msgspec.msgpack.Encoder()
decode_batch = msgspec.msgpack.Decoder(Batch).decode
decode_loaded = msgspec.msgpack.Decoder(Loaded).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def pack(message: Batch | Loaded | Reply) -> bytes:
    """A message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read(stream: BinaryIO) -> bytes | None:
    """The next message of a blocking stream, or None at its end."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    body = stream.read(length)
    return body if len(body) == length else None


async def read_async(stream: asyncio.StreamReader) -> bytes:
    """The next message; raises `asyncio.IncompleteReadError` at the stream's end."""
    head = await stream.readexactly(LENGTH_BYTES)
    return await stream.readexactly(int.from_bytes(head, "big"))
