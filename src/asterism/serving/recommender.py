"""The read path: a visitor's state, then the best slate that can be had in time.

Knows no HTTP, no SQL and no tensors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec

from asterism.config.reranking import RerankingConfig
from asterism.core.clock import Clock
from asterism.core.drawn_ids import drawn_id
from asterism.core.ids import IdMap
from asterism.serving.features.replaying import used_features
from asterism.serving.hot_state import HotState
from asterism.serving.item_facts import Eligible, ItemFacts
from asterism.serving.ladder import Ladder, newest_items
from asterism.serving.model_answers import ModelAnswers
from asterism.serving.pages import Page, PageKey, Pages, page_key_of
from asterism.serving.ports import EngineClient
from asterism.serving.recommendation import Because, Recommendation, Recommended, RecommendRequest, Source
from asterism.serving.reranker import Ranked, Reranker, SlateRequest
from asterism.serving.scroll import Scroll, Scrolls
from asterism.serving.under_way import Answering, UnderWay
from asterism.serving.visits import Visit, Visits
from asterism.stores.catalogue import Catalogue
from asterism.stores.exposure_log import Exposure, ExposureLog, Shown
from asterism.stores.outages import Outage
from asterism.stores.used_features import UsedFeatures
from asterism.stores.user_state import UserState, Visitor
from asterism.stores.vectors import VectorIndex


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """How long the engine may take, how many items it is asked for at least, and what is made of them.

    For `slate_seconds`, or up to a quarter less, by the visitor, a visitor's slate is the model's answer, as long as
    their state, their scene and the bundle are the same; 0 asks the engine every time.
    """

    deadline_seconds: float = 0.2
    slate_items: int = 30
    slate_seconds: float = 60.0
    reranking: RerankingConfig = field(default_factory=RerankingConfig)


class Recommender:
    """Answers requests; for one event loop."""

    def __init__(
        self,
        *,
        engine: EngineClient,
        hot: HotState,
        catalogue: Catalogue,
        facts: ItemFacts,
        vectors: VectorIndex,
        exposures: ExposureLog,
        clock: Clock,
        bundle_version: str,
        settings: RecommenderSettings | None = None,
    ) -> None:
        settings = settings or RecommenderSettings()
        self._engine = engine
        self._catalogue = catalogue
        self._facts = facts
        self._vectors = vectors
        self._exposures = exposures
        self._clock = clock
        self._first_version = bundle_version
        self._visits = Visits(hot)
        self._model = ModelAnswers(
            engine,
            self._visits,
            clock,
            lambda: self.bundle_version,
            settings.deadline_seconds,
            settings.slate_seconds,
            settings.slate_items,
        )
        self._pages = Pages()
        self._under_way = UnderWay()
        self._ladder = Ladder(engine, hot, vectors)
        self._reranker = Reranker(settings.reranking, facts, vectors)
        self._scrolls = Scrolls(facts.ids)
        self._unavailable: frozenset[str] = frozenset()
        self._catalogue_down = Outage("the catalogue", "what was known to be unavailable is left out")
        self._exposures_down = Outage("the exposure log", "what is shown is not recorded")
        self._explaining_down = Outage("item vectors", "nothing is explained")

    @property
    def bundle_version(self) -> str:
        """Of the bundle that answers now."""
        return self._engine.bundle_version or self._first_version

    @property
    def reranker(self) -> Reranker:
        """What makes slates of candidates."""
        return self._reranker

    @property
    def visits(self) -> Visits:
        """What reads the states and slates of visitors."""
        return self._visits

    @property
    def item_ids(self) -> IdMap:
        """The items that it chooses from."""
        return self._facts.ids

    def prepared(self, facts: ItemFacts, vectors: VectorIndex) -> Callable[[], None]:
        """What makes it choose from another catalogue; for any thread, and what it gives for the loop of requests.

        A request under way goes on with what it has begun with, or finds an item of the new catalogue unknown.
        """
        choose, scrolls = self._reranker.prepared(facts, vectors), Scrolls(facts.ids)

        def take_over() -> None:
            choose()
            self._facts, self._vectors, self._scrolls = facts, vectors, scrolls
            self._ladder.vectors = vectors

        return take_over

    @property
    def facts(self) -> ItemFacts:
        """What filters, boosts, rules and caps go by."""
        return self._facts

    def prepared_facts(self, facts: ItemFacts) -> Callable[[], None]:
        """Returns what goes by other facts of the same items from then on: that is quick, this may take a while."""
        if facts.says_the_same(self._facts):
            return lambda: None
        choose = self._reranker.prepared(facts, self._vectors)

        def know() -> None:
            choose()
            self._facts = facts

        return know

    async def recommend(self, request: RecommendRequest) -> Recommendation:
        """The best slate that can be had within the deadline.

        Raises `CursorError`, and without a cursor `RequestError` on a category that no item has.
        """
        started = time.perf_counter()
        with self._under_way.to(request.visitor.key) as answering:
            visit = await self._visits.of(request.visitor)
            key = self._page_key(request, visit)
            page = None if answering.is_void else self._page(key, visit)
            if page is None:
                return await self._made(request, visit, key, started, answering)
            return _again(page, self._repeated(page), started)

    def page_for(self, key: PageKey) -> Page | None:
        """What answers a plain request without waiting for anything; None where `recommend` has to be asked."""
        visit = None if self._reranker.explores else self._visits.at_once(key.visitor)
        return None if visit is None else self._page(key, visit)

    def again(self, page: Page) -> str:
        """Give the answer of a page of `page_for` once more: the attribution id under which it is recorded."""
        return self._repeated(page)

    def _repeated(self, page: Page) -> str:
        attribution_id, now = drawn_id(), int(self._clock.now())
        self._exposures_down.spared(partial(self._exposures.record_again, page.shown, attribution_id, now))
        return attribution_id

    def users_held(self) -> list[str]:
        """Users of whom a page is kept or an answer under way, some more than once."""
        return self._pages.users() + self._under_way.users()

    def forget(self, user_ids: Iterable[str]) -> None:
        """Delete what is kept of users beside their states and their slates; of answers under way nothing is kept."""
        visitors = {Visitor(one) for one in user_ids}
        self._under_way.forget(visitors)
        self._pages.forget(visitors)

    def _page_key(self, request: RecommendRequest, visit: Visit) -> PageKey | None:
        """What an answer may be kept under; None where it holds for this request alone."""
        if visit.key is None or request.explain or not request.takes_slate or self._reranker.explores:
            return None
        return page_key_of(request.visitor, request.scene, request.device, request.count)

    def _page(self, key: PageKey | None, visit: Visit) -> Page | None:
        page = self._pages.get(key) if key is not None else None
        return page if page is not None and self._holds(page, visit) else None

    def _holds(self, page: Page, visit: Visit) -> bool:
        is_current = page.facts is self._facts and page.unavailable is self._unavailable_now()
        return is_current and self._model.is_valid(page.basis, visit)

    def _unavailable_now(self) -> frozenset[str]:
        found = self._catalogue_down.spared(self._catalogue.unavailable)
        if found is not None:
            self._unavailable = found
        return self._unavailable

    async def _made(
        self, request: RecommendRequest, visit: Visit, key: PageKey | None, started: float, answering: Answering
    ) -> Recommendation:
        self._check(request)
        scroll, unavailable = self._scrolls.read(request.cursor), self._unavailable_now()
        more = request.exclude.union(scroll.item_ids, self._reranker.hidden(request.scene))
        excluded = _excluded(visit.state, more)
        eligible = Eligible(self._facts, request.wanted, request.allowed, excluded, unavailable)
        candidates = self._reranker.candidates_for(request.count, request.boosts)
        said = await self._model.about(request, visit, eligible, candidates)
        scored = self._ladder.scored(said.slate.items if said.slate is not None else (), said.source, visit.state)
        looked_for = candidates + (candidates == request.count)  # one more than are shown tells of a next page
        found = self._ladder.candidates(scored, visit.state, eligible, looked_for)
        ranked = found[:candidates]
        attribution_id = drawn_id()
        items = tuple(self._slate(request, scroll, ranked, eligible, attribution_id))
        if request.explain:
            items = await asyncio.to_thread(self._explain, items, visit.state, unavailable)
        slate = said.slate if ranked and ranked[0].item.source is said.source else None
        answer = Recommendation(
            attribution_id=attribution_id,
            source=ranked[0].item.source if ranked else Source.POPULAR,
            items=items,
            bundle_version=slate.bundle_version if slate is not None else self.bundle_version,
            latency_ms=(time.perf_counter() - started) * 1000,
            cursor=self._cursor(scroll, len(found), items),
            degraded=slate is not None and slate.degraded,
            cached=slate is not None and said.cached,
        )
        if answering.is_void:
            return answer  # and nothing is kept of it
        exposure = self._exposure(request, answer, used_features(request, visit.state, slate, more, self._clock.now()))
        self._exposures_down.spared(partial(self._exposures.record, exposure))
        if key is not None and slate is not None and said.source is Source.MODEL:
            page = Page(answer, replace(slate, items=()), unavailable, eligible.facts, Shown(exposure))
            self._pages.keep(key, page)
        return answer

    def _check(self, request: RecommendRequest) -> None:
        if request.cursor is not None:
            return  # the first page was asked for when there were such items; now there are none
        asked = [request.wanted.categories] if request.wanted else []
        for categories in (*asked, *(one.categories for one in request.boosts)):
            self._facts.check_categories(categories)

    def _slate(
        self, request: RecommendRequest, scroll: Scroll, ranked: list[Ranked], eligible: Eligible, attribution_id: str
    ) -> list[Recommended]:
        if not (request.explain or self._reranker.changes(request.boosts)):
            return [one.item for one in ranked]
        asked = SlateRequest(
            count=request.count,
            scene=request.scene,
            boosts=request.boosts,
            categories=request.wanted.categories if request.wanted else frozenset(),
            shown=len(scroll.marks),
            now_seconds=self._clock.now(),
            seed=int(attribution_id, 16),
            explain=request.explain,
        )
        return self._reranker.slate(ranked, eligible, asked)

    def _cursor(self, scroll: Scroll, found: int, items: tuple[Recommended, ...]) -> str | None:
        """What leads on behind these items; None where no more were found. (Caps may leave a page short of that.)"""
        if not items or found <= len(items):
            return None
        return self._scrolls.after(scroll, (one.item_id for one in items))

    def _explain(
        self, items: tuple[Recommended, ...], state: UserState, unavailable: frozenset[str]
    ) -> tuple[Recommended, ...]:
        past = [one for one in newest_items(state) if one not in unavailable]
        if not past or not items:
            return items
        ids = [one.item_id for one in items]
        cosines = self._explaining_down.spared(lambda: self._vectors.similarities(ids, past))
        if cosines is None:
            return items
        nearest = cosines.argmax(axis=1)
        return tuple(
            msgspec.structs.replace(one, because=Because(past[column], float(cosines[row, column])))
            if cosines[row, column] > 0
            else one
            for row, (one, column) in enumerate(zip(items, nearest.tolist(), strict=True))
        )

    def _exposure(self, request: RecommendRequest, answer: Recommendation, used: UsedFeatures) -> Exposure:
        return Exposure(
            attribution_id=answer.attribution_id,
            timestamp=int(self._clock.now()),
            item_ids=tuple(one.item_id for one in answer.items),
            source=answer.source.value,
            user_id=request.visitor.user_id,
            session_id=request.visitor.session_id,
            scene=request.scene,
            bundle_version=answer.bundle_version,
            propensities=tuple(one.propensity for one in answer.items) if self._reranker.explores else None,
            used=used,
        )


def _again(page: Page, attribution_id: str, started: float) -> Recommendation:
    """The same answer under an id of its own; written out, as `dataclasses.replace` takes five times as long."""
    answer = page.answer
    return Recommendation(
        attribution_id=attribution_id,
        source=answer.source,
        items=answer.items,
        bundle_version=answer.bundle_version,
        latency_ms=(time.perf_counter() - started) * 1000,
        cursor=answer.cursor,
        degraded=answer.degraded,
        cached=True,
        encoded=answer.encoded,
    )


def _excluded(state: UserState, more: frozenset[str]) -> frozenset[str]:
    """What no answer may hold; of ten thousand seen items no copy is made where there is nothing to add."""
    return state.left_out | more if more else state.left_out
