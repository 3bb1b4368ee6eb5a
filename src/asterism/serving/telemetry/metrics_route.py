"""The metrics of a gateway, on its own port."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client.registry import CollectorRegistry
from starlette.responses import Response

from asterism.serving.telemetry.exposition import CONTENT_TYPE, render


def metrics_routes(registry: CollectorRegistry) -> APIRouter:
    """`GET /metrics` of a gateway."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)  # no envelope around it
    def metrics() -> Response:
        return Response(render(registry), headers={"content-type": CONTENT_TYPE})

    return router
