"""Answers to `POST /api/v1/recommend` as bytes, put together of parts that answers share."""

from __future__ import annotations

from typing import Final

import msgspec

from asterism.serving.http.cards import place_of, slate_facts
from asterism.serving.http.hot.card_shelf import CardShelf
from asterism.serving.recommendation import Recommendation

_HEAD: Final = b'{"code":0,"message":"ok","data":{"attribution_id":"%b","latency_ms":%.3f,"cached":%b,'
_CACHED: Final = (b"false", b"true")

_encode = msgspec.json.Encoder().encode


async def slate_bytes(shelf: CardShelf, answer: Recommendation, trace_id: str) -> bytes:
    """The whole body of an answer; its items are encoded once for all answers that share them."""
    parts: tuple[bytes, ...] | None = answer.encoded.parts
    if parts is None:
        parts, is_whole = await _slate_parts(shelf, answer)
        if is_whole:
            answer.encoded.parts = parts
    return _joined(answer, parts, trace_id)


def slate_bytes_again(answer: Recommendation, trace_id: str) -> bytes | None:
    """As `slate_bytes`, where the items were encoded before and nothing has to be read for it."""
    parts: tuple[bytes, ...] | None = answer.encoded.parts
    return None if parts is None else _joined(answer, parts, trace_id)


def _joined(answer: Recommendation, parts: tuple[bytes, ...], trace_id: str) -> bytes:
    head = _HEAD % (answer.attribution_id.encode(), answer.latency_ms, _CACHED[answer.cached])
    return b"".join((head, *parts, trace_id.encode(), b'"}'))


async def _slate_parts(shelf: CardShelf, answer: Recommendation) -> tuple[tuple[bytes, ...], bool]:
    """What stands between the head and the trace id, and whether it shows every item as the catalogue has it."""
    reasons = [one.because.item_id for one in answer.items if one.because is not None]
    cards = await shelf.take([*(one.item_id for one in answer.items), *reasons])
    parts = [_encode(slate_facts(answer))[1:-1] + b',"items":[']
    comma = b""
    for one in answer.items:
        card = cards.get(one.item_id)
        if card is None:
            continue  # the catalogue lost it meanwhile
        reason = cards.get(one.because.item_id) if one.because is not None else None
        placed = _encode(place_of(one, reason.item.title if reason is not None else None))
        parts += [comma, card.start, b"," + placed[1:]]
        comma = b","
    parts.append(b']},"trace_id":"')
    return tuple(parts), all(card.is_known for card in cards.values())
