"""The served bundle: which, which else, and a change of it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from asterism.serving.http.admin import answers, examples
from asterism.serving.http.admin.bodies import DeployBody
from asterism.serving.http.answers import Envelope
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.service import Service


def model_routes(service: Service) -> APIRouter:
    """Status, deploy, rollback."""
    router = APIRouter(prefix="/admin/api/v1/model", tags=["admin"])
    deployer = service.deployer

    @router.get(
        "",
        response_model=Envelope[answers.DeploymentData],
        responses=answers_of(examples.DEPLOYMENT),
        summary="The bundle that is served",
    )
    async def status(request: Request) -> Response:
        return success(request, (await asyncio.to_thread(deployer.status))._asdict())

    @router.post(
        "/deploy",
        response_model=Envelope[answers.DeploymentData],
        responses=answers_of(examples.DEPLOYMENT, 20001, 20003, 20013, 30001, 30002),
        summary="Serve another bundle",
    )
    async def deploy(request: Request, body: DeployBody) -> Response:
        return success(request, (await deployer.deploy(body.bundle))._asdict())

    @router.post(
        "/rollback",
        response_model=Envelope[answers.DeploymentData],
        responses=answers_of(examples.DEPLOYMENT, 20013, 30001, 30002),
        summary="Serve again what was served before",
    )
    async def rollback(request: Request) -> Response:
        return success(request, (await deployer.rollback())._asdict())

    return router
