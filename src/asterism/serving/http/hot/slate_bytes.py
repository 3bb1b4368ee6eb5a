"""Answers to `POST /api/v1/recommend` as bytes, put together of parts that answers share."""

from __future__ import annotations

from typing import Final

import msgspec

from asterism.serving.http.cards import place_of, slate_facts
from asterism.serving.http.hot.card_shelf import CardShelf
from asterism.serving.pages import Page
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
    return _joined(parts, answer.attribution_id, answer.latency_ms, answer.cached, trace_id)


def page_bytes(page: Page, attribution_id: str, latency_ms: float, trace_id: str) -> bytes:
    """As `slate_bytes`, of a page given again; one whose items were encoded before, so that nothing has to be read."""
    return _joined(page.answer.encoded.parts, attribution_id, latency_ms, True, trace_id)


def _joined(parts: tuple[bytes, ...], attribution_id: str, latency_ms: float, is_cached: bool, trace_id: str) -> bytes:
    head = _HEAD % (attribution_id.encode(), latency_ms, _CACHED[is_cached])
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
