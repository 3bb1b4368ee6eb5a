"""The same handler as it is written in FastAPI: a pydantic model in, a pydantic model out, cards in memory."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from asterism.serving.http.answers import Envelope, RecommendData
from asterism.serving.http.cards import card_of, place_of, slate_facts
from asterism.serving.http.requests import RecommendBody
from asterism.serving.service import Service
from asterism.stores.catalogue import Item


def fastapi_way(service: Service, items: dict[str, Item]) -> FastAPI:
    """An application with this one route; it shares the recommender and spares itself the catalogue, as we do."""
    app = FastAPI()
    cards = {one: card_of(item, service.engine.semantic_id(one)) for one, item in items.items()}

    @app.post("/api/v1/recommend")
    async def recommend(request: Request, body: RecommendBody) -> Envelope[RecommendData]:
        answer = await service.recommender.recommend(body.to_request())
        shown: list[Any] = [{**cards[one.item_id], **place_of(one, None)} for one in answer.items]
        data = RecommendData(
            **slate_facts(answer),
            attribution_id=answer.attribution_id,
            cached=answer.cached,
            latency_ms=answer.latency_ms,
            items=shown,
        )
        return Envelope[RecommendData](code=0, message="ok", data=data, trace_id=request.state.trace_id)

    return app
