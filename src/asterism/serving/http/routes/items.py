"""What is asked about an item."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from asterism.core.errors import UnknownIdError
from asterism.serving.http import answers, cards, examples
from asterism.serving.http.described import answers_of, errors_of
from asterism.serving.http.envelope import success
from asterism.serving.http.id_paths import ANY_TEXT, names_a_cover
from asterism.serving.http.requests import Count
from asterism.serving.service import Service

ItemId = Annotated[str, Path(min_length=1, max_length=256, examples=["i42"])]

_COVER_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cache-control": "public, max-age=300",
}


class CoverRoute(APIRoute):
    """Leads to covers alone, and leaves items whose id ends in `/cover` to the next route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `BaseRoute.matches`."""
        return super().matches(scope) if names_a_cover(scope["raw_path"]) else (Match.NONE, {})


def item_routes(service: Service) -> APIRouter:
    """Cards, covers, neighbours."""
    router, covers = APIRouter(prefix="/api/v1", tags=["item"]), APIRouter(route_class=CoverRoute)

    @covers.get(
        f"/item/{{item_id:{ANY_TEXT}}}/cover",
        summary="An item's image as SVG",
        response_class=Response,
        responses={200: {"content": {"image/svg+xml": {}}}, **errors_of(20001, 20003, 10005)},
    )
    async def cover(item_id: ItemId) -> Response:
        svg = await asyncio.to_thread(service.catalogue.image, item_id)
        if svg is None:
            raise UnknownIdError(f"item {item_id!r} has no image")
        return Response(svg, media_type="image/svg+xml", headers=_COVER_HEADERS)

    router.include_router(covers)

    @router.get(
        f"/item/{{item_id:{ANY_TEXT}}}",
        response_model=answers.Envelope[answers.ItemCard],
        responses=answers_of(examples.ITEM, 20001, 20003, 10005),
        summary="One item",
    )
    async def item(request: Request, item_id: ItemId) -> Response:
        found = await asyncio.to_thread(service.catalogue.get, item_id)
        return success(request, cards.item_card(service, found))

    @router.get(
        f"/similar/{{item_id:{ANY_TEXT}}}",
        response_model=answers.Envelope[answers.SimilarData],
        responses=answers_of(examples.SIMILAR, 20001, 20003, 10005),
        summary="Items near an item",
    )
    async def similar(
        request: Request, item_id: ItemId, count: Annotated[Count, Query()] = 10, mode: answers.ModeName = "semantic"
    ) -> Response:
        return success(request, await asyncio.to_thread(cards.similar_data, service, item_id, count, mode))

    return router
