"""The gateway: the service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastapi import FastAPI
from starlette.types import ASGIApp

from asterism import __version__
from asterism.serving.http.admin import items, users
from asterism.serving.http.admin.bulk import bulk_routes
from asterism.serving.http.admin.dashboard import dashboard_routes
from asterism.serving.http.admin.model import model_routes
from asterism.serving.http.envelope import install_error_handlers
from asterism.serving.http.gate import Gate
from asterism.serving.http.hot.page_lane import PageLane
from asterism.serving.http.hot.road import HotRoad
from asterism.serving.http.page_files import install_page
from asterism.serving.http.routes.health import health_routes
from asterism.serving.http.routes.items import item_routes
from asterism.serving.http.routes.search import search_routes
from asterism.serving.http.routes.users import user_routes
from asterism.serving.http.routes.visitors import visitor_routes
from asterism.serving.service import Service
from asterism.serving.telemetry.metrics_route import metrics_routes


class Gateway(NamedTuple):
    """An application, and what answers some of its requests before they become any of its."""

    app: ASGIApp
    lane: PageLane | None  # None where users' states are not in this process


def build_app(service: Service, gate: Gate | None = None) -> ASGIApp:
    """An application that starts the engine with itself and stops the service at its end; without a gate, open."""
    return build_gateway(service, gate).app


def build_gateway(service: Service, gate: Gate | None = None) -> Gateway:
    """The application of `build_app`, and the lane beside it, which lets in whom the application would."""
    gate = gate or Gate()
    api, telemetry, entrance = build_api(service), service.telemetry, gate.entrance()
    guarded = gate.around(telemetry.inside(HotRoad(api, service)), entrance)
    app = telemetry.around(guarded, [*api.openapi()["paths"], "/openapi.json", "/metrics"])
    return Gateway(app, PageLane(service, entrance) if service.hot.is_local else None)


def build_api(service: Service) -> FastAPI:
    """The routes, without what every request passes before them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Asterism",
        version=__version__,
        summary="A generative recommender: slates, feedback, items.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be an answer without the envelope
    )
    install_error_handlers(app)
    app.include_router(visitor_routes(service))
    app.include_router(user_routes(service))
    app.include_router(search_routes(service))
    app.include_router(item_routes(service))
    app.include_router(health_routes(service))
    for admin in (items.item_routes, users.user_routes, bulk_routes, model_routes, dashboard_routes):
        app.include_router(admin(service))
    app.include_router(metrics_routes(service.telemetry.registry))
    install_page(app)
    return app
