"""Opens each store by its URL; what a URL does not name is neither imported nor asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from asterism.core.clock import Clock, SystemClock
from asterism.core.errors import ConfigError, MissingDependencyError
from asterism.core.ids import IdMap
from asterism.stores.api_keys import ApiKeys
from asterism.stores.blobs import Blobs, LocalBlobs
from asterism.stores.catalogue import Catalogue
from asterism.stores.event_bus import Consumer, EventBus
from asterism.stores.event_ids import EventIds, LocalEventIds
from asterism.stores.event_log import LocalEventLog
from asterism.stores.item_counts import ItemCounts, LocalItemCounts
from asterism.stores.local_bus import LocalConsumer, LocalEventBus
from asterism.stores.rate_limits import LocalRateLimits, RateLimits
from asterism.stores.slates import LocalSlates, Slates
from asterism.stores.urls import StoreUrl
from asterism.stores.user_state import MAX_RECENT, LocalUserStates, RecentEvent, UserStates, Visitor
from asterism.stores.users import Users
from asterism.stores.vectors import ExactVectorIndex, VectorIndex
from asterism.stores.vectors_beside import VectorsBeside

WORKER: Final = "worker"  # whose part it is to write the history

#: A module, and the extra that brings what it imports.
_NEEDED: Final = {
    "sqlite": ("sql_database", "sql"),
    "postgresql": ("sql_database", "postgres"),
    "postgresql+psycopg": ("sql_database", "postgres"),
    "redis": ("redis_client", "redis"),
    "rediss": ("redis_client", "redis"),
    "redis+cluster": ("redis_client", "redis"),
    "kafka": ("kafka_bus", "kafka"),
    "chdb": ("cold_history", "chdb"),
    "clickhouse": ("cold_history", "clickhouse"),
    "milvus": ("milvus_vectors", "milvus"),
    "s3": ("s3_blobs", "s3"),
}


class Warm(NamedTuple):
    """Catalogue and users, in one database."""

    catalogue: Catalogue
    users: Users


@dataclass(frozen=True, slots=True)
class Hot:
    """Users' states, slates, rate limits, event ids and counts, in one place."""

    states: UserStates
    slates: Slates
    limits: RateLimits
    event_ids: EventIds
    counts: ItemCounts
    client: Any = None  # of Redis, where it is that

    def forget(self, visitor: Visitor) -> None:
        """Delete all that is kept of a visitor."""
        self.states.forget(visitor)
        self.slates.forget(visitor)
        self.event_ids.forget(visitor)

    def close(self) -> None:
        """Let go of all connections."""
        if self.client is not None:
            self.client.close()


def open_warm(url: str, timeout_seconds: float = 5.0) -> Warm:
    """The catalogue and the users of a database, its schema brought up to date."""
    database = implementation(url).Database(url, timeout_seconds=timeout_seconds)
    catalogue = load("sql_catalogue", "sql").SqlCatalogue(database)
    users = load("sql_users", "sql").SqlUsers(database)
    return Warm(catalogue, users)


def open_users(url: str, timeout_seconds: float = 5.0) -> Users:
    """The users of a database alone, its schema brought up to date."""
    database = implementation(url).Database(url, timeout_seconds=timeout_seconds)
    return cast(Users, load("sql_users", "sql").SqlUsers(database))


def open_keys(url: str, timeout_seconds: float = 5.0) -> ApiKeys:
    """The API keys of a database, its schema brought up to date."""
    database = implementation(url).Database(url, timeout_seconds=timeout_seconds)
    return cast(ApiKeys, load("sql_api_keys", "sql").SqlApiKeys(database))


def open_hot(
    url: str,
    clock: Clock | None = None,
    timeout_seconds: float = 1.0,
    *,
    max_recent: int = MAX_RECENT,
    earlier: Callable[[Visitor], Iterable[RecentEvent]] = lambda _: (),
) -> Hot:
    """States, slates and limits in memory or in Redis, where visitors begin with their `earlier` events."""
    clock = clock or SystemClock()
    if url == "memory":
        states, slates, limits = LocalUserStates(max_recent), LocalSlates(clock), LocalRateLimits(clock)
        return Hot(states, slates, limits, LocalEventIds(clock), LocalItemCounts())
    client = implementation(url).RedisClient(url, timeout_seconds=timeout_seconds)
    stores, marks = load("redis_states", "redis"), load("redis_marks", "redis")
    return Hot(
        stores.RedisUserStates(client, max_recent, earlier=earlier),
        stores.RedisSlates(client, clock),
        stores.RedisRateLimits(client, clock),
        marks.RedisEventIds(client, clock),
        marks.RedisItemCounts(client),
        client,
    )


def open_bus(url: str, timeout_seconds: float = 10.0) -> EventBus:
    """The event bus on local segment files or on Kafka."""
    parsed = StoreUrl.parse(url)
    if parsed.scheme == "local":
        folder = parsed.path()
        return LocalEventBus(LocalEventLog(folder), folder)
    return cast(EventBus, implementation(url).KafkaEventBus(url, timeout_seconds=timeout_seconds))


def open_consumer(url: str, group: str, timeout_seconds: float = 10.0) -> Consumer:
    """A member of a group, in a process that need not publish; a local log may be another process's."""
    parsed = StoreUrl.parse(url)
    if parsed.scheme == "local":
        return LocalConsumer(parsed.path(), group)
    module = implementation(url)
    return cast(Consumer, module.KafkaConsumer(module.Place(url, timeout_seconds), group))


def open_history(url: str, timeout_seconds: float = 30.0, role: str = "program") -> Any:
    """The cold history in chDB or ClickHouse: a `ColdHistory`, whose packages may not be installed."""
    return implementation(url).ColdHistory(url, timeout_seconds=timeout_seconds, role=role)


def open_vectors(
    url: str, items: IdMap, vectors: Any, timeout_seconds: float = 3.0, version: str | None = None
) -> VectorIndex:
    """Item vectors compared in process, or beside that in Milvus, in a collection of its own for each version."""
    here = ExactVectorIndex(items, vectors)
    if url == "exact":
        return here
    address, _, options = url.partition("?")
    if version is not None:
        place = address.rstrip("/")
        place = place if StoreUrl.parse(place).rest.count("/") else f"{place}/items"
        url = f"{place}_{version}" + (f"?{options}" if options else "")
    index = implementation(url).MilvusVectorIndex(url, timeout_seconds=timeout_seconds)

    def fill() -> None:
        if len(index) < len(items):
            index.put(items.ids, vectors)

    return VectorsBeside(here, index, fill)


def open_blobs(url: str, timeout_seconds: float = 5.0) -> Blobs:
    """Blobs in a folder or in S3."""
    parsed = StoreUrl.parse(url)
    if parsed.scheme == "file":
        return LocalBlobs(parsed.path())
    return cast(Blobs, implementation(url).S3Blobs(url, timeout_seconds=timeout_seconds))


def implementation(url: str) -> Any:
    """The module behind a URL; raises `ConfigError` on a kind of URL nobody knows, `MissingDependencyError`."""
    parsed = StoreUrl.parse(url)
    if parsed.scheme not in _NEEDED:
        raise ConfigError(f"{parsed.shown!r} is no store that Asterism knows; known here: {', '.join(_NEEDED)}")
    return load(*_NEEDED[parsed.scheme])


def load(module: str, extra: str) -> Any:
    """A module of this room whose packages an extra brings; raises `MissingDependencyError`."""
    try:
        return importlib.import_module(f"asterism.stores.{module}")
    except ImportError as error:
        raise MissingDependencyError(
            f"this store needs {error.name}, which is not installed; run: pip install 'asterism[{extra}]'"
        ) from error
