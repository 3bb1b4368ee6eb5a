"""The gateway: the service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from asterism import __version__
from asterism.serving.http.asgi import RequestFrame
from asterism.serving.http.envelope import install_error_handlers
from asterism.serving.http.hot.road import HotRoad
from asterism.serving.http.page_files import install_page
from asterism.serving.http.routes.health import health_routes
from asterism.serving.http.routes.items import item_routes
from asterism.serving.http.routes.users import user_routes
from asterism.serving.http.routes.visitors import visitor_routes
from asterism.serving.service import Service


def build_app(service: Service) -> ASGIApp:
    """An application that starts the service's engine with itself, and stops the service at its end."""
    return RequestFrame(
        HotRoad(build_api(service), service)
    )  # outermost, so that also an unforeseen error leaves in its frame


def build_api(service: Service) -> FastAPI:
    """The routes, without the frame around every request."""

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
    app.include_router(item_routes(service))
    app.include_router(health_routes(service))
    install_page(app)
    return app
