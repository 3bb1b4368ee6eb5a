"""A service on PostgreSQL, Redis, Kafka and chDB: gateways and workers of one deployment, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from asterism.config.stores import StoresConfig
from asterism.core.clock import Clock, ManualClock
from asterism.core.records import Action
from asterism.serving.recommendation import RecommendRequest, Source
from asterism.serving.service import Service, ServiceSettings, open_service
from asterism.serving.worker.running import Worker, open_worker
from asterism.serving.worker.settings import WorkerSettings
from asterism.stores.event_log import Event
from asterism.stores.user_state import Visitor
from contracts.postgres_server import Postgres
from contracts.servers import ServerProcess
from serving.running import ENGINE, wait_until

NOW = int(time.time())
ADA = Visitor("ada")


@dataclass
class Place:
    """A deployment, and the servers that can be taken away."""

    bundle: Path
    folder: Path
    stores: StoresConfig
    postgres: Postgres
    redis: ServerProcess
    clock: ManualClock

    def gateway(self, name: str, clock: Clock | None = None, timeout_seconds: float = 10.0) -> Service:
        """One more gateway."""
        stores = self.stores.model_copy(update={"timeout_seconds": timeout_seconds})
        settings = ServiceSettings(self.bundle, self.folder / name, ENGINE, deadline_seconds=20.0, stores=stores)
        service = open_service(settings, clock or self.clock)
        service.hot._patience_seconds = 20.0  # what a slow machine's Redis says late is not taken for silence
        return service

    def worker(self, *groups: str, timeout_seconds: float = 10.0) -> Worker:
        """A worker with these groups, started."""
        stores = self.stores.model_copy(update={"timeout_seconds": timeout_seconds})
        worker = open_worker(WorkerSettings(self.bundle, self.folder / "worker", stores, groups=groups))
        worker.start()
        return worker


def event(number: int, item_id: str, action: Action = Action.CLICK, visitor: Visitor = ADA) -> Event:
    return Event(f"e{number}", item_id, action, NOW + number, *visitor)


async def served(service: Service, use: Callable[[], Awaitable[None]]) -> None:
    """Use a service whose engine is up, and stop it."""
    service.start()
    try:
        await service.engine.wait_ready()
        await use()
    finally:
        await service.stop()


async def shown(service: Service, visitor: Visitor = ADA, count: int = 60) -> tuple[Source, list[str]]:
    """Where a feed came from, and its items."""
    answer = await service.recommender.recommend(RecommendRequest(visitor, count))
    return answer.source, [one.item_id for one in answer.items]


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)
