"""Search over the catalogue."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from asterism.core.errors import RequestError
from asterism.serving.http import answers, cards, examples
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.http.requests import Count, Id, Price
from asterism.serving.search import Search, SearchAnswer
from asterism.serving.service import Service
from asterism.stores.catalogue import ItemFilter

Question = Annotated[str, Query(min_length=1, max_length=256, examples=["paper lamp"])]
Names = Annotated[list[Id], Query(max_length=20)]


def search_routes(service: Service) -> APIRouter:
    """Words and vectors, fused."""
    router = APIRouter(prefix="/api/v1", tags=["item"])

    @router.get(
        "/search",
        response_model=answers.Envelope[answers.SearchData],
        responses=answers_of(examples.SEARCH, 20001, 10005),
        summary="Items for a question",
    )
    async def search(
        request: Request,
        q: Question,
        count: Annotated[Count, Query()] = 20,
        category: Names = [],  # noqa: B006  # FastAPI copies it
        brand: Names = [],  # noqa: B006
        min_price: Annotated[Price | None, Query()] = None,
        max_price: Annotated[Price | None, Query()] = None,
    ) -> Response:
        if min_price is not None and max_price is not None and min_price > max_price:
            raise RequestError(f"no price lies between `min_price` {min_price:g} and `max_price` {max_price:g}")
        wanted = ItemFilter(tuple(category), tuple(brand), min_price, max_price)
        began = time.perf_counter()
        searcher = Search(service.catalogue, service.vectors)
        answer = await asyncio.to_thread(searcher.find, q, wanted, count)
        latency_ms = (time.perf_counter() - began) * 1000
        return success(request, _search_data(service, answer, latency_ms))

    return router


def _search_data(service: Service, answer: SearchAnswer, latency_ms: float) -> cards.Plain:
    """A `SearchData`."""
    rows = [
        {
            **cards.item_card(service, one.item),
            "score": one.score,
            "text_place": one.text_place,
            "vector_place": one.vector_place,
        }
        for one in answer.found
    ]
    return {"vectors": answer.vectors, "latency_ms": latency_ms, "items": rows}
