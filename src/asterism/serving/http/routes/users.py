"""What is kept about a user: shown to them, and erased."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from asterism.core.errors import UnknownIdError
from asterism.serving.http import answers, cards, examples
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.http.requests import Count
from asterism.serving.service import Service
from asterism.stores.user_state import Visitor

_PROFILE: Final = "/profile"

UserId = Annotated[str, Path(min_length=1, max_length=256, examples=["u1"])]


def user_routes(service: Service) -> APIRouter:
    """Profiles, and forgetting."""
    router = APIRouter(prefix="/api/v1", tags=["user"])

    @router.get(
        "/users/sample",
        response_model=answers.Envelope[answers.UsersData],
        responses=answers_of(examples.SAMPLE, 20001, 10005),
        summary="Users to try the service as",
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
        responses=answers_of(examples.PROFILE, 20001, 20003, 10005),
        summary="A user as we see them",
    )
    async def profile(request: Request, user_id: UserId, count: Annotated[Count, Query()] = 30) -> Response:
        visitor = Visitor(user_id=user_id)
        if not service.hot.states.known(visitor):
            raise UnknownIdError(f"user {user_id!r} has no events yet; send some to /api/v1/feedback")
        state = service.hot.states.get(visitor)
        return success(request, await asyncio.to_thread(cards.profile_data, service, user_id, state, count))

    @router.delete(
        "/user/{user_id:path}",
        response_model=answers.Envelope[answers.ErasedData],
        responses=answers_of(examples.ERASED, 20001, 10003, 10005),
        summary="Forget a user",
    )
    async def forget(request: Request, user_id: UserId) -> Response:
        if user_id.endswith(_PROFILE):  # meant for the profile, which cannot be deleted alone
            raise HTTPException(405)
        return success(request, (await service.forgetting.forget(user_id))._asdict())

    return router
