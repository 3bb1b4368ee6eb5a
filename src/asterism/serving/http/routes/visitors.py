"""What is asked and told about a visitor: slates, feedback, sessions."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from asterism.core.errors import AsterismError
from asterism.serving.http import answers, cards, examples
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.http.requests import FeedbackBody, RecommendBatchBody, RecommendBody
from asterism.serving.recommendation import Recommendation, RecommendRequest
from asterism.serving.service import Service

_SESSION_BYTES: Final = 24  # drawn; nobody guesses another's


def visitor_routes(service: Service) -> APIRouter:
    """Slates, feedback and sessions."""
    router = APIRouter(prefix="/api/v1", tags=["visitor"])

    @router.post(
        "/recommend",
        response_model=answers.Envelope[answers.RecommendData],
        responses=answers_of(examples.SLATE, 20001, 20008, 10004, 10005),
        summary="A slate for a visitor",
    )
    async def recommend(request: Request, body: RecommendBody) -> Response:
        answer = await service.recommender.recommend(_asked(request, body))
        return success(request, await asyncio.to_thread(cards.recommend_data, service, answer))

    @router.post(
        "/recommend/batch",
        response_model=answers.Envelope[answers.BatchData],
        responses=answers_of(examples.BATCH, 20001, 10004, 10005),
        summary="Slates for many visitors",
    )
    async def recommend_batch(request: Request, body: RecommendBatchBody) -> Response:
        found = await asyncio.gather(*(_answer_of(service, _asked(request, one)) for one in body.requests))
        return success(request, await asyncio.to_thread(cards.batch_data, service, found))

    @router.post(
        "/feedback",
        response_model=answers.Envelope[answers.FeedbackData],
        responses=answers_of(examples.FEEDBACK, 20001, 20003, 10003, 10004, 10005),
        summary="Events, made durable",
    )
    async def feedback(request: Request, body: FeedbackBody) -> Response:
        events = body.to_events(service.clock.now())
        verdicts = await service.feedback.accept(events)
        rows = [{"event_id": event.event_id, "new": new} for event, new in zip(events, verdicts, strict=True)]
        accepted = sum(verdicts)
        return success(request, {"accepted": accepted, "duplicates": len(rows) - accepted, "events": rows})

    @router.post(
        "/session",
        response_model=answers.Envelope[answers.SessionData],
        responses=answers_of(examples.SESSION),
        summary="An id for an anonymous visitor",
    )
    async def session(request: Request) -> Response:
        return success(request, {"session_id": secrets.token_urlsafe(_SESSION_BYTES)})

    return router


def _asked(request: Request, body: RecommendBody) -> RecommendRequest:
    """What a body asks for, by when the caller wants it."""
    return replace(body.to_request(), deadline=request.scope["state"].get("deadline"))


async def _answer_of(service: Service, asked: RecommendRequest) -> Recommendation | AsterismError:
    try:
        return await service.recommender.recommend(asked)
    except AsterismError as error:
        return error
