"""What is asked about an item."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from asterism.core.errors import UnknownIdError
from asterism.serving.http import answers, cards, examples
from asterism.serving.http.described import answers_of, errors_of
from asterism.serving.http.envelope import success
from asterism.serving.http.requests import Count
from asterism.serving.service import Service

ItemId = Annotated[str, Path(min_length=1, max_length=256, examples=["i42"])]

_COVER_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cache-control": "public, max-age=300",
}


def item_routes(service: Service) -> APIRouter:
    """Cards, covers, neighbours."""
    router = APIRouter(prefix="/api/v1", tags=["item"])

    @router.get(
        "/item/{item_id:path}/cover",
        summary="An item's image as SVG",
        response_class=Response,
        responses={200: {"content": {"image/svg+xml": {}}}, **errors_of(20001, 20003, 10005)},
    )
    async def cover(item_id: ItemId) -> Response:
        svg = await asyncio.to_thread(service.catalogue.image, item_id)
        if svg is None:
            raise UnknownIdError(f"item {item_id!r} has no image")
        return Response(svg, media_type="image/svg+xml", headers=_COVER_HEADERS)

    @router.get(
        "/item/{item_id:path}",
        response_model=answers.Envelope[answers.ItemCard],
        responses=answers_of(examples.ITEM, 20001, 20003, 10005),
        summary="One item",
    )
    async def item(request: Request, item_id: ItemId) -> Response:
        found = await asyncio.to_thread(service.catalogue.get, item_id)
        return success(request, cards.item_card(service, found))

    @router.get(
        "/similar/{item_id:path}",
        response_model=answers.Envelope[answers.SimilarData],
        responses=answers_of(examples.SIMILAR, 20001, 20003, 10005),
        summary="Items near an item",
    )
    async def similar(
        request: Request, item_id: ItemId, count: Annotated[Count, Query()] = 10, mode: answers.ModeName = "semantic"
    ) -> Response:
        return success(request, await asyncio.to_thread(cards.similar_data, service, item_id, count, mode))

    return router
