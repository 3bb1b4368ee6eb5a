"""What the service and its engine processes say to each other: MessagePack behind a four-byte length."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from asterism.core.semantic_id import SemanticId
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.scheduling import CostSample

LENGTH_BYTES: Final = 4


class Start(msgspec.Struct):
    """The command line of an engine process."""

    factory: str  # module:function
    bundle: str
    version: str
    min_beam: int | None = None
    core: int | None = None  # the processor core that it keeps to


class Batch(msgspec.Struct, tag=True, array_like=True):
    """Requests to answer, `beam` wide where the engine has a beam."""

    number: int
    requests: tuple[EngineRequest, ...]
    beam: int | None = None


class Withdrawn(msgspec.Struct, tag=True, array_like=True):
    """Nobody waits any more for these rows of a batch."""

    batch: int
    rows: tuple[int, ...]


class Availability(msgspec.Struct, tag=True, array_like=True):
    """Items that later batches leave out, and items that come back."""

    gone: frozenset[str]
    back: frozenset[str]


class Forget(msgspec.Struct, tag=True, array_like=True):
    """Users of whom nothing is to be kept, by their `digest_of`."""

    digests: tuple[str, ...]


class Loaded(msgspec.Struct):
    """The engine is loaded, or the reason why it cannot be."""

    semantic_ids: dict[str, SemanticId] = {}
    beam: int | None = None
    samples: tuple[CostSample, ...] = ()
    refusal: str | None = None


class Reply(msgspec.Struct, array_like=True):
    """The answers to a batch, None for a request that was dropped, or the reason why there are none."""

    batch: int
    answers: tuple[EngineAnswer | None, ...] = ()
    error: str | None = None
    kept_bytes: dict[str, int] = {}


class PackedReply(msgspec.Struct, array_like=True):
    """A `Reply` whose answers are packed already."""

    batch: int
    answers: msgspec.Raw
    error: str | None = None
    kept_bytes: dict[str, int] = {}


ToEngine = Batch | Withdrawn | Availability | Forget

_encoder = msgspec.msgpack.Encoder()
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_batch = msgspec.msgpack.Decoder(Batch).decode
decode_loaded = msgspec.msgpack.Decoder(Loaded).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode
encode_start = msgspec.json.Encoder().encode
decode_start = msgspec.json.Decoder(Start).decode


#: From an engine in place of a reply: the batch under way will be done so soon that the next one may be sent.
NEARLY_DONE: Final = bytes(LENGTH_BYTES)


def pack(message: ToEngine | Loaded | Reply | PackedReply) -> bytes:
    """A message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_async(stream: asyncio.StreamReader) -> bytes:
    """The next message; raises `asyncio.IncompleteReadError` at the stream's end."""
    head = await stream.readexactly(LENGTH_BYTES)
    return await stream.readexactly(int.from_bytes(head, "big"))
