"""Figures of the whole service."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from asterism.serving.http import cards
from asterism.serving.http.admin import answers, examples
from asterism.serving.http.answers import Envelope
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.service import Service


def dashboard_routes(service: Service) -> APIRouter:
    """One route."""
    router = APIRouter(prefix="/admin/api/v1", tags=["admin"])
    started_at = int(service.clock.now())

    @router.get(
        "/dashboard",
        response_model=Envelope[answers.DashboardData],
        responses=answers_of(examples.DASHBOARD, 10005),
        summary="Figures of the service",
    )
    async def dashboard(request: Request) -> Response:
        counted = await asyncio.to_thread(_counted, service)
        engine = cards.engine_data(service.engine.status)
        return success(request, {"started_at": started_at, **counted, "engine": engine})

    return router


def _counted(service: Service) -> cards.Plain:
    unavailable = len(service.catalogue.unavailable())
    return {
        "model": service.deployer.status()._asdict(),
        "items": {"total": len(service.catalogue), "unavailable": unavailable},
        "users": {
            "profiles": len(service.users),
            "active": len(service.hot.states) if service.hot.is_local else None,
        },
    }
