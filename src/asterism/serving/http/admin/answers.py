"""What answers of the admin side hold."""

from __future__ import annotations

from pydantic import BaseModel

from asterism.serving.http.answers import EngineData, ItemCard


class AdminItem(ItemCard):
    """An item with what visitors do not see.

    `recommendable` is false where the served model does not know the item: it is in catalogue and search, and is
    recommended once a bundle with it is served.
    """

    created_at: int | None
    hidden: bool
    recommendable: bool


class AdminItems(BaseModel):
    """Items in order of id; `next` is where the next page begins, null at the end."""

    items: list[AdminItem]
    next: str | None


class DeletedItem(BaseModel):
    """An item that was deleted."""

    item_id: str


class AdminUser(BaseModel):
    """A user and the attributes that are known."""

    user_id: str
    attributes: dict[str, str | float | bool | None]


class AdminUsers(BaseModel):
    """Users in order of id; `next` is where the next page begins, null at the end."""

    users: list[AdminUser]
    next: str | None


class RefusedLine(BaseModel):
    """A line that was not taken, from 1."""

    line: int
    reason: str


class ImportData(BaseModel):
    """What became of an import; of the refused lines the first hundred are named."""

    imported: int
    refused: int
    lines: list[RefusedLine]


class DeploymentData(BaseModel):
    """The bundle that is served, where a rollback leads, and what may be deployed.

    Users' earlier events are those of the bundle that the gateway was started with, until it is started again:
    `restart_needed`.
    """

    version: str
    name: str
    previous: str | None
    bundles: list[str]
    restart_needed: bool


class ItemCounts(BaseModel):
    """Items of the catalogue, and those that must not be recommended."""

    total: int
    unavailable: int


class UserCounts(BaseModel):
    """Users with attributes; those with a history, where the state is in this process."""

    profiles: int
    active: int | None


class DashboardData(BaseModel):
    """How the service is."""

    started_at: int
    model: DeploymentData
    items: ItemCounts
    users: UserCounts
    engine: EngineData
