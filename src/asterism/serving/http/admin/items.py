"""Items: made, replaced, changed, hidden, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from asterism.core.errors import ConflictError, RequestError, UnknownIdError
from asterism.serving.http import cards
from asterism.serving.http.admin import answers, examples
from asterism.serving.http.admin.bodies import ItemBody, ItemChanges, NewItemBody
from asterism.serving.http.answers import Envelope
from asterism.serving.http.described import answers_of
from asterism.serving.http.envelope import success
from asterism.serving.http.requests import Count
from asterism.serving.http.routes.items import ItemId
from asterism.serving.service import Service
from asterism.stores.catalogue import Item, StoredItem

After = Annotated[str, Query(max_length=256)]
_ONE = Envelope[answers.AdminItem]


def item_routes(service: Service) -> APIRouter:
    """The catalogue's items."""
    items = _Items(service)
    shown, hidden = APIRouter(prefix="/items"), APIRouter(prefix="/hidden-items")
    _add_reading(shown, service, items)
    _add_writing(shown, items)
    _add_hiding(hidden, items)
    router = APIRouter(prefix="/admin/api/v1", tags=["admin"])
    router.include_router(shown)
    router.include_router(hidden)
    return router


def _told(*codes: int) -> dict[str, Any]:
    return {"response_model": _ONE, "responses": answers_of(examples.ITEM, 20001, *codes, 10003, 10005)}


def _add_reading(router: APIRouter, service: Service, items: _Items) -> None:
    @router.get(
        "",
        response_model=Envelope[answers.AdminItems],
        responses=answers_of(examples.ITEMS, 20001, 10005),
        summary="Items in order of id",
    )
    async def listed(request: Request, after: After = "", limit: Annotated[Count, Query()] = 50) -> Response:
        found = await asyncio.to_thread(lambda: list(islice(service.catalogue.export(after), limit)))
        rows = [items.row(one) for one in found]
        return success(request, {"items": rows, "next": rows[-1]["item_id"] if len(rows) == limit else None})

    @router.get("/{item_id:path}", summary="One item, hidden or not", **_told(20003))
    async def one(request: Request, item_id: ItemId) -> Response:
        return success(request, await asyncio.to_thread(lambda: items.row(service.catalogue.stored(item_id))))


def _add_hiding(router: APIRouter, items: _Items) -> None:
    """Paths of their own, as an item's id may hold slashes."""

    @router.put("/{item_id:path}", summary="Hide an item from every answer", **_told(20003))
    async def hide(request: Request, item_id: ItemId) -> Response:
        return success(request, await items.hide(item_id, True))

    @router.delete("/{item_id:path}", summary="Show a hidden item again", **_told(20003))
    async def show(request: Request, item_id: ItemId) -> Response:
        return success(request, await items.hide(item_id, False))


def _add_writing(router: APIRouter, items: _Items) -> None:
    @router.post("", summary="Make an item", **_told(20013))
    async def make(request: Request, body: NewItemBody) -> Response:
        return success(request, await items.make(_stored(body.item_id, body)))

    @router.put("/{item_id:path}", summary="Make an item, or replace it", **_told())
    async def put(request: Request, item_id: ItemId, body: ItemBody) -> Response:
        return success(request, await items.put(_stored(_new_id(item_id), body)))

    @router.patch("/{item_id:path}", summary="Change some fields of an item", **_told(20003))
    async def change(request: Request, item_id: ItemId, body: ItemChanges) -> Response:
        return success(request, await items.change(item_id, body.changes()))

    @router.delete(
        "/{item_id:path}",
        response_model=Envelope[answers.DeletedItem],
        responses=answers_of(examples.DELETED, 20001, 20003, 10003, 10005),
        summary="Delete an item",
    )
    async def delete(request: Request, item_id: ItemId) -> Response:
        await items.delete(item_id)
        return success(request, {"item_id": item_id})


class _Items:
    """What reads before it writes does so one after another; of several gateways, the last one wins."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._writing = asyncio.Lock()

    def row(self, stored: StoredItem) -> cards.Plain:
        """An `AdminItem`; `available` is the item's own, whether it is hidden or not."""
        card = cards.item_card(self._service, stored.item)
        return {
            **card,
            "created_at": stored.item.created_at,
            "hidden": stored.hidden,
            "recommendable": card["semantic_id"] is not None,
        }

    async def make(self, item: StoredItem) -> cards.Plain:
        async with self._writing:
            if await asyncio.to_thread(self._service.catalogue.many, [item.item.item_id]):
                raise ConflictError(
                    f"item {item.item.item_id!r} exists already; replace it with PUT, or change it with PATCH"
                )
            return await self.put(item)

    async def put(self, item: StoredItem) -> cards.Plain:
        return await self._written(lambda: item)

    async def change(self, item_id: str, changes: dict[str, Any]) -> cards.Plain:
        async with self._writing:
            return await self._written(lambda: _changed(self._service.catalogue.stored(item_id), changes))

    async def hide(self, item_id: str, hidden: bool) -> cards.Plain:
        await asyncio.to_thread(self._service.catalogue.set_hidden, item_id, hidden)
        return await asyncio.to_thread(lambda: self.row(self._service.catalogue.stored(item_id)))

    async def delete(self, item_id: str) -> None:
        if not await asyncio.to_thread(self._service.catalogue.delete, [item_id]):
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue")

    async def _written(self, item: Callable[[], StoredItem]) -> cards.Plain:
        def write() -> cards.Plain:
            made = item()
            self._service.catalogue.restore([made])
            return self.row(self._service.catalogue.stored(made.item.item_id))

        return await asyncio.to_thread(write)


def _new_id(item_id: str) -> str:
    if "\x00" in item_id or "\ufffd" in item_id:
        raise RequestError("`item_id` holds a character that no database keeps; choose another id")
    return item_id


def _stored(item_id: str, body: ItemBody) -> StoredItem:
    fields = body.model_dump(exclude={"item_id", "hidden", "image"})
    return StoredItem(_item({**fields, "item_id": item_id}), body.hidden, body.image)


def _changed(stored: StoredItem, changes: dict[str, Any]) -> StoredItem:
    hidden, image = changes.pop("hidden", stored.hidden), changes.pop("image", None)
    categories = changes.pop("categories", stored.item.categories)
    kind = str(changes.pop("kind", stored.item.kind))
    return StoredItem(replace(stored.item, **changes, categories=tuple(categories), kind=kind), hidden, image)


def _item(fields: dict[str, Any]) -> Item:
    return Item(**{**fields, "categories": tuple(fields["categories"]), "kind": str(fields["kind"])})
