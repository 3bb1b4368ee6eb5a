"""The read path in the test's own process: the real parts over the small market, any of which can be switched off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from asterism.config.reranking import RerankingConfig
from asterism.core.clock import ManualClock
from asterism.core.errors import ModelError, StoreUnavailableError
from asterism.core.records import Action
from asterism.core.semantic_id import SemanticId
from asterism.serving.bundle_tables import read_catalogue, read_histories, read_vectors
from asterism.serving.hot_state import HotState
from asterism.serving.item_facts import ItemFacts
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.recommendation import Recommendation, RecommendRequest
from asterism.serving.recommender import Recommender, RecommenderSettings
from asterism.stores import exposure_log
from asterism.stores.catalogue import Catalogue
from asterism.stores.event_log import Event
from asterism.stores.exposure_log import Exposure
from asterism.stores.opening import open_hot, open_warm
from asterism.stores.slates import LocalSlates
from asterism.stores.user_state import LocalUserStates, Visitor
from serving.small_market import SOLD_OUT, CooccurrenceEngine, write_bundle

T = TypeVar("T")
NOW = 1_790_000_000.0


class Switch:
    """Stands before a part; while it is off, whatever is asked of the part fails."""

    def __init__(self, part: Any, *always: str) -> None:
        self._part = part
        self.works_still = frozenset(always)  # methods that work even then
        self.is_off = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not callable(found) or name in self.works_still:
            return found

        def asked(*arguments: Any, **named: Any) -> Any:
            if self.is_off:
                raise StoreUnavailableError(f"{name} is switched off")
            return found(*arguments, **named)

        return asked


class TestedEngine:
    """Implements `EngineClient` over a real engine in this process, counts what it is asked, and fails when told to."""

    __test__ = False

    def __init__(self, engine: CooccurrenceEngine, bundle_version: str) -> None:
        self._engine = engine
        self._codes = engine.semantic_ids()
        self.bundle_version = bundle_version
        self.asked: list[EngineRequest] = []
        self.delay_seconds = 0.0  # so long an answer takes, or until this is none again
        self.is_dead = False

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(request)
        version = self.bundle_version
        end = time.monotonic() + self.delay_seconds
        await asyncio.sleep(0)
        while self.delay_seconds and time.monotonic() < end:
            await asyncio.sleep(0.01)
        if self.is_dead:
            raise ModelError("the engine was killed")
        available = replace(request, excluded=request.excluded | {SOLD_OUT})  # as engines know what is sold out
        return replace(self._engine.recommend([available])[0], bundle_version=version)

    def semantic_id(self, item_id: str) -> SemanticId | None:
        return self._codes.get(item_id)


@dataclass
class Shown:
    """Implements `ExposureLog` as far as the read path needs it."""

    exposures: list[Exposure] = field(default_factory=list)

    def record(self, exposure: Exposure) -> None:
        self.exposures.append(exposure)

    def record_again(self, shown: exposure_log.Shown, attribution_id: str, timestamp: int) -> None:
        self.exposures.append(replace(shown.exposure, attribution_id=attribution_id, timestamp=timestamp))


class Shop:
    """A recommender and its parts."""

    def __init__(self, folder: Path, reranking: RerankingConfig | None = None, **settings: Any) -> None:
        bundle = write_bundle(folder / "bundle")
        table = read_catalogue(bundle)
        self.clock = ManualClock(NOW)
        self.engine = TestedEngine(CooccurrenceEngine(bundle.path), bundle.version)
        self.real_catalogue: Catalogue = open_warm(f"sqlite:///{folder / 'catalogue.db'}").catalogue
        self.real_catalogue.sync(table.items, table.images, bundle.version)
        self.catalogue = Switch(self.real_catalogue)
        self.states = Switch(LocalUserStates(), "last_known")
        self.slates = Switch(LocalSlates(self.clock))
        self.vectors = Switch(read_vectors(bundle, table.ids))
        self.exposures = Switch(Shown(), "exposures")
        stores = replace(open_hot("memory", self.clock), states=self.states, slates=self.slates)
        categories = {item.item_id: item.categories for item in table.items}
        self.hot = HotState(categories, read_histories(bundle), stores)
        self.recommender = Recommender(
            engine=self.engine,
            hot=self.hot,
            catalogue=self.catalogue,  # type: ignore[arg-type]
            facts=ItemFacts(table.items),
            vectors=self.vectors,  # type: ignore[arg-type]
            exposures=self.exposures,  # type: ignore[arg-type]
            clock=self.clock,
            bundle_version=bundle.version,
            settings=RecommenderSettings(
                reranking=reranking or RerankingConfig(), **{"deadline_seconds": 1.0, **settings}
            ),
        )

    @property
    def shown(self) -> list[Exposure]:
        return list(self.exposures.exposures)

    async def ask(self, user_id: str | None = "u1", count: int = 10, **more: Any) -> Recommendation:
        visitor = more.pop("visitor", Visitor(user_id))
        return await self.recommender.recommend(RecommendRequest(visitor, count, **more))

    async def slate_kept(self, user_id: str) -> None:
        """Return once a visitor's slate is kept, for which nobody waited."""
        async with asyncio.timeout(60):
            while self.slates.get(Visitor(user_id)) is None:
                await asyncio.sleep(0.01)

    def tell(self, user_id: str, item_id: str, action: Action = Action.CLICK, session_id: str | None = None) -> None:
        at = int(self.clock.now())
        self.hot.apply(Event(f"e-{user_id}-{item_id}-{action}", item_id, action, at, user_id, session_id))


@contextmanager
def opened(folder: Path, **settings: Any) -> Iterator[Shop]:
    """A shop whose files are let go of at the end."""
    shop = Shop(folder, **settings)
    try:
        yield shop
    finally:
        shop.real_catalogue.close()


def in_loop(story: Callable[[Shop], Coroutine[Any, Any, T]], shop: Shop) -> T:
    """What a story gives that is told in an event loop of its own."""
    return asyncio.run(story(shop))


def ids(answer: Recommendation) -> list[str]:
    return [one.item_id for one in answer.items]
