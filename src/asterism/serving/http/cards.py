"""From the recommender's words to what answers hold; reads the catalogue, so it runs on a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from asterism.core.errors import AsterismError
from asterism.core.semantic_id import SemanticId, format_semantic_id
from asterism.serving.engine.status import EngineStatus
from asterism.serving.http.errors import SUCCESS
from asterism.serving.recommendation import Recommendation, Recommended
from asterism.serving.service import Service
from asterism.serving.similar import Mode
from asterism.stores.catalogue import Item
from asterism.stores.user_state import UserState

Plain = dict[str, Any]


def item_card(service: Service, item: Item) -> Plain:
    """An `ItemCard`."""
    return card_of(item, service.engine.semantic_id(item.item_id))


def card_of(item: Item, codes: SemanticId | None) -> Plain:
    """An `ItemCard` of an item with this semantic id."""
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "categories": item.categories,
        "brand": item.brand,
        "price": item.price,
        "kind": item.kind,
        "available": item.available,
        "cover": f"/api/v1/item/{quote(item.item_id, safe='')}/cover" if item.has_image else None,
        "semantic_id": codes,
        "semantic_id_text": format_semantic_id(codes) if codes is not None else None,
    }


def recommend_data(service: Service, answer: Recommendation) -> Plain:
    """A `RecommendData`; an item that the catalogue lost meanwhile is left out."""
    reasons = [one.because.item_id for one in answer.items if one.because]
    found = service.catalogue.many([*(one.item_id for one in answer.items), *reasons])
    return {
        **slate_facts(answer),
        "attribution_id": answer.attribution_id,
        "cached": answer.cached,
        "latency_ms": answer.latency_ms,
        "items": [
            {**item_card(service, found[one.item_id]), **place_of(one, _title(one, found))}
            for one in answer.items
            if one.item_id in found
        ],
    }


def slate_facts(answer: Recommendation) -> Plain:
    """What is said of a slate as often as it is given."""
    return {
        "source": answer.source,
        "degraded": answer.degraded,
        "bundle_version": answer.bundle_version,
        "cursor": answer.cursor,
    }


def place_of(one: Recommended, reason_title: str | None) -> Plain:
    """What a `RecommendedCard` says beside the item's card: how the item came to its place."""
    because = None
    if one.because is not None and reason_title is not None:
        because = {**one.because._asdict(), "title": reason_title}
    return {
        "source": one.source,
        "score": one.score,
        "because": because,
        "weighed": one.weighed._asdict() if one.weighed is not None else None,
        "propensity": one.propensity,
        "explored": one.explored,
    }


def _title(one: Recommended, found: dict[str, Item]) -> str | None:
    return found[one.because.item_id].title if one.because is not None and one.because.item_id in found else None


def engine_data(status: EngineStatus) -> Plain:
    """An `EngineData`."""
    engines = [one._asdict() for one in status.engines]
    told = {**status._asdict(), "engines": engines, "figures": status.figures._asdict()}
    del told["processes"]
    return told


def batch_data(service: Service, answers: Sequence[Recommendation | AsterismError]) -> Plain:
    """A `BatchData`."""
    return {"answers": [_batch_entry(service, one) for one in answers]}


def _batch_entry(service: Service, answer: Recommendation | AsterismError) -> Plain:
    if isinstance(answer, AsterismError):
        return {"code": answer.code, "message": str(answer), "data": None}
    return {"code": SUCCESS, "message": "ok", "data": recommend_data(service, answer)}


def similar_data(service: Service, item_id: str, count: int, mode: Mode) -> Plain:
    """A `SimilarData`; raises `UnknownIdError`, and `RequestError` where the bundle lacks what the mode reads."""
    service.catalogue.get(item_id)
    neighbours = service.similar.nearest(item_id, count, mode, service.catalogue.unavailable())
    found = service.catalogue.many([one.item_id for one in neighbours])
    cards = [
        {**item_card(service, found[one.item_id]), "similarity": one.similarity}
        for one in neighbours
        if one.item_id in found
    ]
    return {"mode": mode, "items": cards}


def profile_data(service: Service, user_id: str, state: UserState, count: int) -> Plain:
    """A `ProfileData` over the newest `count` events."""
    newest = state.recent[::-1][:count]
    found = service.catalogue.many([one.item_id for one in newest])
    recent = [
        {"item": item_card(service, found[one.item_id]), "action": one.action, "timestamp": one.timestamp}
        for one in newest
        if one.item_id in found
    ]
    interests = [{"category": name, "weight": weight} for name, weight in service.hot.interests(state).items()]
    return {
        "user_id": user_id,
        "events": len(state.recent),
        "segment": service.hot.segment(state),
        "interests": interests,
        "recent": recent,
    }
