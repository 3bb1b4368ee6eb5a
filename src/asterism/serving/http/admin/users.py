"""Users and their attributes; deleting one forgets them."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from asterism.core.errors import ConflictError, RequestError, UnknownIdError
from asterism.serving.http import cards
from asterism.serving.http import examples as user_examples
from asterism.serving.http.admin import answers, examples
from asterism.serving.http.admin.bodies import MOST_ATTRIBUTES, NewUserBody, UserBody, UserChanges
from asterism.serving.http.admin.items import After
from asterism.serving.http.answers import Envelope, ErasedData
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.http.id_paths import ANY_TEXT
from asterism.serving.http.requests import Count
from asterism.serving.http.routes.users import UserId
from asterism.serving.service import Service
from asterism.stores.users import User, Users

_ONE = Envelope[answers.AdminUser]


def user_routes(service: Service) -> APIRouter:
    """The users."""
    router = APIRouter(prefix="/admin/api/v1/users", tags=["admin"])
    users = service.users
    writing = asyncio.Lock()

    def told(*codes: int) -> dict[str, Any]:
        return {"response_model": _ONE, "responses": answers_of(examples.USER, 20001, *codes, 10003, 10005)}

    @router.get(
        "",
        response_model=Envelope[answers.AdminUsers],
        responses=answers_of(examples.USERS, 20001, 10005),
        summary="Users in order of id",
    )
    async def listed(request: Request, after: After = "", limit: Annotated[Count, Query()] = 50) -> Response:
        found = await asyncio.to_thread(lambda: list(islice(users.export(after), limit)))
        rows = [_row(one) for one in found]
        return success(request, {"users": rows, "next": rows[-1]["user_id"] if len(rows) == limit else None})

    @router.post("", summary="Make a user", **told(20013))
    async def make(request: Request, body: NewUserBody) -> Response:
        async with writing:
            if await asyncio.to_thread(_known, users, body.user_id):
                raise ConflictError(f"user {body.user_id!r} exists already; replace them with PUT")
            return success(request, await asyncio.to_thread(_put, users, User(body.user_id, body.attributes)))

    @router.get(f"/{{user_id:{ANY_TEXT}}}", summary="One user", **told(20003))
    async def one(request: Request, user_id: UserId) -> Response:
        return success(request, _row(await asyncio.to_thread(users.get, user_id)))

    @router.put(f"/{{user_id:{ANY_TEXT}}}", summary="Make a user, or replace all that is known of them", **told())
    async def put(request: Request, user_id: UserId, body: UserBody) -> Response:
        if "\x00" in user_id or "\ufffd" in user_id:
            raise RequestError("`user_id` holds a character that no database keeps; choose another id")
        return success(request, await asyncio.to_thread(_put, users, User(user_id, body.attributes)))

    @router.patch(f"/{{user_id:{ANY_TEXT}}}", summary="Change some attributes of a user", **told(20003))
    async def change(request: Request, user_id: UserId, body: UserChanges) -> Response:
        async with writing:
            known = await asyncio.to_thread(users.get, user_id)
            return success(request, await asyncio.to_thread(_put, users, _changed(known, body)))

    @router.delete(
        f"/{{user_id:{ANY_TEXT}}}",
        response_model=Envelope[ErasedData],
        responses=answers_of(user_examples.ERASED, 20001, 10003, 10005),
        summary="Forget a user",
    )
    async def forget(request: Request, user_id: UserId) -> Response:
        return success(request, (await service.forgetting.forget(user_id))._asdict())

    return router


def _changed(user: User, by: UserChanges) -> User:
    merged = {**user.attributes, **by.attributes}
    left = {name: value for name, value in merged.items() if value is not None}
    if len(left) > MOST_ATTRIBUTES:
        raise RequestError(
            f"user {user.user_id!r} would have {len(left)} attributes; {MOST_ATTRIBUTES} is the most, "
            "so take some away with null"
        )
    return User(user.user_id, left)


def _row(user: User) -> cards.Plain:
    return {"user_id": user.user_id, "attributes": dict(user.attributes)}


def _known(users: Users, user_id: str) -> bool:
    try:
        users.get(user_id)
    except UnknownIdError:
        return False
    return True


def _put(users: Users, user: User) -> cards.Plain:
    users.upsert([user])
    return _row(user)
