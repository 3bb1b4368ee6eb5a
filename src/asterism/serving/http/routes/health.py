"""Whether the process lives, and whether the model answers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from asterism.core.errors import ModelError
from asterism.serving.http import answers, cards, examples
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import EnvelopeResponse, success, trace_id_of
from asterism.serving.service import Service


def health_routes(service: Service) -> APIRouter:
    """What a load balancer asks."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz",
        response_model=answers.Envelope[answers.LiveData],
        responses=answers_of(examples.LIVE),
        summary="The process answers",
    )
    async def healthz(request: Request) -> Response:
        return success(request, {"status": "live"})

    @router.get(
        "/readyz",
        response_model=answers.Envelope[answers.ReadyData],
        responses={
            **answers_of(examples.READY),
            503: {"model": answers.UnreadyEnvelope, "description": "Code 30002: answers are popular items meanwhile"},
        },
        summary="The model answers",
    )
    async def readyz(request: Request) -> Response:
        engine = service.engine.status
        bundle = service.deployer.bundle
        data = {
            "bundle_version": bundle.version,
            "bundle_name": bundle.path.resolve().name,
            "items": bundle.fact("items"),
            "engine": cards.engine_data(engine),
        }
        if engine.ready:
            return success(request, data)
        reason = f"the engine is not ready: {engine.error or 'it is loading'}; answers are popular items meanwhile"
        return EnvelopeResponse(ModelError.code, reason, data, trace_id_of(request))

    return router
