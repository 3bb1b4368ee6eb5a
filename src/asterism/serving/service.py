"""The running service: stores, engine process, read path and write path, put together from a bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asterism.config.reranking import RerankingConfig
from asterism.config.stores import StoresConfig
from asterism.core.bundle import Bundle
from asterism.core.clock import Clock, SystemClock
from asterism.core.progress import track
from asterism.serving.breaker import GuardedEngine
from asterism.serving.bundle_tables import CatalogueTable, read_catalogue, read_histories
from asterism.serving.deploying import Deployer
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from asterism.serving.features.earlier import EarlierEvents, recent_kept
from asterism.serving.features.service import UserFeatureService
from asterism.serving.feedback import FeedbackIntake
from asterism.serving.forgetting import Forgetting
from asterism.serving.grpc.remote_engine import RemoteEngine
from asterism.serving.hot_state import HotState
from asterism.serving.item_following import ItemFollowing
from asterism.serving.places import DEFAULT_ENGINE as DEFAULT_ENGINE
from asterism.serving.places import default_state_folder as default_state_folder
from asterism.serving.ports import EngineHandle
from asterism.serving.recommender import Recommender, RecommenderSettings
from asterism.serving.served_tables import ServedTables
from asterism.serving.similar import SimilarItems
from asterism.serving.telemetry.instrumented import Telemetry, instrument, open_telemetry
from asterism.stores.event_bus import EventBus
from asterism.stores.exposure_log import ExposureLog, LocalExposureLog
from asterism.stores.local_bus import LocalEventBus
from asterism.stores.opening import open_bus, open_hot, open_warm
from asterism.stores.remembered_catalogue import RememberedCatalogue
from asterism.stores.users import Users
from asterism.stores.vectors import VectorIndex
from asterism.stores.vectors_beside import VectorsBeside

_LET_GO_SECONDS: Final = 60.0  # after a deploy: requests that ask the vectors of before have ended by then


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Which bundle, where what must survive a restart is kept, and which engine answers."""

    bundle: Path
    state: Path  # the folder of what no store of `stores` keeps
    engine: str = DEFAULT_ENGINE
    deadline_seconds: float = 0.2
    slate_seconds: float = 60.0  # a visitor's slate is the model's answer for so long at most, if nothing changed
    engines: int = 1  # processes with a model each
    min_beam: int | None = None  # as narrow as the beam may get under load; an eighth of the bundle's by default
    pin: bool = False  # each engine keeps to one core
    engine_addresses: tuple[str, ...] = ()  # of engine processes; without one, the service starts its own
    reranking: RerankingConfig = field(default_factory=RerankingConfig)
    stores: StoresConfig | None = None  # by default embedded ones, below the state folder
    bundles: Path | None = None  # the folder of those that may be deployed; by default the one where `bundle` lies
    beside: tuple[str, ...] = ()  # versions of other bundles that are served from the same stores

    @property
    def deployment(self) -> StoresConfig:
        """Where each store is."""
        return self.stores or StoresConfig.embedded(self.state)


@dataclass(slots=True)
class Service:
    """Everything a gateway needs to answer."""

    bundle: Bundle
    catalogue: RememberedCatalogue
    users: Users
    vectors: VectorIndex
    similar: SimilarItems
    bus: EventBus
    exposures: ExposureLog
    hot: HotState
    engine: EngineHandle
    recommender: Recommender
    feedback: FeedbackIntake
    features: UserFeatureService
    clock: Clock
    forgetting: Forgetting
    deployer: Deployer
    telemetry: Telemetry
    _following: list[asyncio.Task[None]] = field(default_factory=list, init=False)

    def prepared(self, bundle: Bundle, table: CatalogueTable, stores: StoresConfig) -> Callable[[], None]:
        """What makes it serve another bundle's catalogue; for a thread, and what it gives for the event loop.

        Raises `BundleError`.
        """
        tables = ServedTables.of(bundle, table, stores)
        if isinstance(tables.vectors, VectorsBeside):
            tables.vectors.fill()
        choose = self.recommender.prepared(tables.facts, tables.vectors)
        rank = self.hot.prepared(tables.categories)

        def take_over() -> None:
            before = self.vectors
            choose()
            rank()
            self.vectors, self.similar = tables.vectors, tables.similar
            asyncio.get_running_loop().call_later(_LET_GO_SECONDS, before.close)

        return take_over

    def start(self) -> None:
        """Start the engine, on the event loop that will serve."""
        self.engine.start()
        items = ItemFollowing(self.catalogue, self.recommender)
        self._following = [
            asyncio.create_task(one) for one in (self.hot.follow(), self.forgetting.follow(), items.follow())
        ]
        if isinstance(self.vectors, VectorsBeside):
            self._following.append(asyncio.create_task(asyncio.to_thread(self.vectors.fill)))

    async def stop(self) -> None:
        """End the engine process, write what waits, let go of all files and connections."""
        for one in self._following:
            one.cancel()
        await self.deployer.stop()
        await self.engine.stop()
        self.bus.close()
        self.exposures.close()
        self.hot.close()
        self.vectors.close()
        self.catalogue.close()  # and the users, who are in the same database
        await asyncio.to_thread(self.telemetry.close)


def open_service(settings: ServiceSettings, clock: Clock | None = None) -> Service:
    """Read the bundle, open the stores and replay a local log; the engine is not started yet.

    Raises `BundleError`, `StorageError`.
    """
    clock = clock or SystemClock()
    stores = settings.deployment
    bundle = Bundle.open(settings.bundle)
    table = read_catalogue(bundle)
    tables = ServedTables.of(bundle, table, stores)
    exposures = LocalExposureLog(settings.state / "exposures")
    bus = open_bus(stores.bus, stores.timeout_seconds)
    warm = open_warm(stores.catalogue, stores.timeout_seconds)
    catalogue = RememberedCatalogue(warm.catalogue)
    catalogue.sync(table.items, table.images, bundle.version, settings.beside)
    forgotten = warm.users.forgotten()
    earlier = EarlierEvents(read_histories(bundle), forgotten.at_seconds)
    hot_stores = open_hot(
        stores.state,
        clock,
        stores.timeout_seconds / 5,
        max_recent=recent_kept(bundle),
        earlier=earlier,
    )
    hot = HotState(tables.categories, earlier.all(), hot_stores)
    if hot.is_local and isinstance(bus, LocalEventBus):
        for event in track(bus.log.replay(), "replaying feedback"):
            hot.apply(event)
    limits = EngineLimits(
        engines=settings.engines,
        pin=settings.pin,
        min_beam=settings.min_beam,
        max_wait_seconds=settings.deadline_seconds,
    )
    engine: EngineHandle = (
        RemoteEngine(settings.engine_addresses, bundle)
        if settings.engine_addresses
        else EnginePool(settings.engine, bundle, catalogue.unavailable, limits)
    )
    engine = GuardedEngine(engine, slow_seconds=settings.deadline_seconds)
    recommender = Recommender(
        engine=engine,
        hot=hot,
        catalogue=catalogue,
        facts=tables.facts,
        vectors=tables.vectors,
        exposures=exposures,
        clock=clock,
        bundle_version=bundle.version,
        settings=RecommenderSettings(
            settings.deadline_seconds, slate_seconds=settings.slate_seconds, reranking=settings.reranking
        ),
    )
    feedback = FeedbackIntake(bus=bus, hot=hot, catalogue=catalogue, clock=clock)
    telemetry = open_telemetry(lambda: service.deployer.bundle)
    forgetting = Forgetting(
        users=warm.users,
        bus=bus,
        exposures=exposures,
        hot=hot,
        recommender=recommender,
        engine=engine,
        earlier=earlier,
        forgotten=forgotten,
        clock=clock,
    )
    service = Service(
        bundle=bundle,
        catalogue=catalogue,
        users=warm.users,
        vectors=tables.vectors,
        similar=tables.similar,
        bus=bus,
        exposures=exposures,
        hot=hot,
        engine=engine,
        recommender=recommender,
        feedback=feedback,
        features=UserFeatureService(hot, warm.users),
        clock=clock,
        forgetting=forgetting,
        deployer=Deployer(
            bundle,
            engine,
            catalogue,
            settings.state,
            settings.bundles,
            prepare=lambda bundle, table: service.prepared(bundle, table, stores),
        ),
        telemetry=telemetry,
    )
    instrument(service, telemetry)
    return service
