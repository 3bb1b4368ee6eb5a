"""The user side of the API: thin signatures over the service."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from asterism.core.errors import AsterismError, ModelError, UnknownIdError
from asterism.serving.http import answers, cards
from asterism.serving.http.envelope import EnvelopeResponse, success, trace_id_of
from asterism.serving.http.requests import Count, FeedbackBody, RecommendBatchBody, RecommendBody
from asterism.serving.recommendation import Recommendation
from asterism.serving.service import Service
from asterism.stores.user_state import Visitor

ItemId = Annotated[str, Path(max_length=256)]
UserId = Annotated[str, Path(max_length=256)]
_COVER_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cache-control": "public, max-age=300",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": answers.ErrorEnvelope, "description": "An error in the envelope; docs/api.md lists the codes"}
}


def visitor_routes(service: Service) -> APIRouter:
    """What is asked and told about a visitor."""
    router = APIRouter(prefix="/api/v1", responses=_ERRORS)

    @router.post("/recommend", response_model=answers.Envelope[answers.RecommendData], summary="A slate for a visitor")
    async def recommend(request: Request, body: RecommendBody) -> Response:
        answer = await service.recommender.recommend(body.to_request())
        return success(request, await asyncio.to_thread(cards.recommend_data, service, answer))

    @router.post(
        "/recommend/batch", response_model=answers.Envelope[answers.BatchData], summary="Slates for many visitors"
    )
    async def recommend_batch(request: Request, body: RecommendBatchBody) -> Response:
        found = await asyncio.gather(*(_answer_of(service, one) for one in body.requests))
        return success(request, await asyncio.to_thread(cards.batch_data, service, found))

    @router.post("/feedback", response_model=answers.Envelope[answers.FeedbackData], summary="Events, made durable")
    async def feedback(request: Request, body: FeedbackBody) -> Response:
        events = body.to_events(service.clock.now())
        verdicts = await service.feedback.accept(events)
        rows = [{"event_id": event.event_id, "new": new} for event, new in zip(events, verdicts, strict=True)]
        accepted = sum(verdicts)
        return success(request, {"accepted": accepted, "duplicates": len(rows) - accepted, "events": rows})

    @router.get(
        "/users/sample", response_model=answers.Envelope[answers.UsersData], summary="Users to try the service as"
    )
    async def sample_users(request: Request, limit: Annotated[Count, Query()] = 12) -> Response:
        users = []
        for user_id in service.hot.states.sample_users(limit):
            state = service.hot.states.get(Visitor(user_id=user_id))
            users.append({"user_id": user_id, "events": len(state.recent), "interest": service.hot.segment(state)})
        return success(request, {"users": users})

    @router.get(
        "/user/{user_id:path}/profile",
        response_model=answers.Envelope[answers.ProfileData],
        summary="A user as we see them",
    )
    async def profile(request: Request, user_id: UserId, count: Annotated[Count, Query()] = 30) -> Response:
        visitor = Visitor(user_id=user_id)
        if not service.hot.states.known(visitor):
            raise UnknownIdError(f"user {user_id!r} has no events yet; send some to /api/v1/feedback")
        state = service.hot.states.get(visitor)
        return success(request, await asyncio.to_thread(cards.profile_data, service, user_id, state, count))

    return router


async def _answer_of(service: Service, body: RecommendBody) -> Recommendation | AsterismError:
    try:
        return await service.recommender.recommend(body.to_request())
    except AsterismError as error:
        return error


def item_routes(service: Service) -> APIRouter:
    """What is asked about an item."""
    router = APIRouter(prefix="/api/v1", responses=_ERRORS)

    @router.get(
        "/item/{item_id:path}/cover",
        summary="An item's image as SVG",
        responses={200: {"content": {"image/svg+xml": {}}}},
    )
    async def cover(item_id: ItemId) -> Response:
        svg = await asyncio.to_thread(service.catalogue.image, item_id)
        if svg is None:
            raise UnknownIdError(f"item {item_id!r} has no image")
        return Response(svg, media_type="image/svg+xml", headers=_COVER_HEADERS)

    @router.get("/item/{item_id:path}", response_model=answers.Envelope[answers.ItemCard], summary="One item")
    async def item(request: Request, item_id: ItemId) -> Response:
        found = await asyncio.to_thread(service.catalogue.get, item_id)
        return success(request, cards.item_card(service, found))

    @router.get(
        "/similar/{item_id:path}", response_model=answers.Envelope[answers.SimilarData], summary="Items near an item"
    )
    async def similar(
        request: Request, item_id: ItemId, count: Annotated[Count, Query()] = 10, mode: answers.ModeName = "semantic"
    ) -> Response:
        return success(request, await asyncio.to_thread(cards.similar_data, service, item_id, count, mode))

    return router


def health_routes(service: Service) -> APIRouter:
    """Whether the process lives, and whether the model answers."""
    router = APIRouter(responses=_ERRORS)

    @router.get("/healthz", response_model=answers.Envelope[answers.LiveData], summary="The process answers")
    async def healthz(request: Request) -> Response:
        return success(request, {"status": "live"})

    @router.get("/readyz", response_model=answers.Envelope[answers.ReadyData], summary="The model answers")
    async def readyz(request: Request) -> Response:
        engine = service.engine.status
        data = {
            "bundle_version": service.bundle.version,
            "bundle_name": service.bundle.path.resolve().name,
            "items": service.bundle.fact("items"),
            "engine": cards.engine_data(engine),
        }
        if engine.ready:
            return success(request, data)
        reason = f"the engine is not ready: {engine.error or 'it is loading'}; answers are popular items meanwhile"
        return EnvelopeResponse(ModelError.code, reason, data, trace_id_of(request))

    return router
