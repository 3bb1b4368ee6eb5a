"""A round of the nearline loop, over the gateway's services: whom it serves, at what number of calls, and who fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asterism.core.clock import SystemClock
from asterism.core.errors import AsterismError, ModelError, StoreUnavailableError
from asterism.core.records import Action
from asterism.serving.ports import EngineAnswer, EngineHandle, EngineRequest
from asterism.serving.slate_inputs import SlateInput
from asterism.serving.worker import nearline
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.nearline import NearlineSlates, Outcome
from asterism.serving.worker.visitors import Visitors, Waiting
from asterism.stores.event_log import Event
from asterism.stores.slates import ScoredItem, Slate
from asterism.stores.user_state import Offset, RecentEvent, Visitor
from serving.grpc.visitor_gateway import Gateway, run

ITEMS = tuple(f"i{number}" for number in range(40))


@dataclass
class Ranking:
    """Answers batches with the items that are not excluded, in their order; fails for whom it is told to."""

    fails_for: frozenset[str] = frozenset()
    asked: list[EngineRequest] = field(default_factory=list)
    batch: asyncio.Future[None] | None = None
    meanwhile: Callable[[], None] = lambda: None
    status: Any = field(default_factory=lambda: SimpleNamespace(bundle_version="v1"))

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(request)
        if self.batch is None or self.batch.done():
            self.batch = asyncio.ensure_future(asyncio.sleep(0.01))
        await self.batch
        if request.user_id in self.fails_for:
            raise ModelError("this one's model broke")
        self.meanwhile()
        left = [one for one in ITEMS if one not in request.excluded][: request.count]
        return EngineAnswer(tuple(ScoredItem(one, -1.0, (1, 2)) for one in left), "v1")


def arrival(user_id: str, number: int = 1) -> Arrival:
    event = Event(f"e-{user_id}-{number}", f"i{number}", Action.CLICK, number, user_id, scene="home")
    return Arrival(event, Offset("p", number))


def click(one: Gateway, user_id: str, number: int = 1) -> int:
    visitor = Visitor(user_id)
    one.stores.states.apply(visitor, RecentEvent(number, f"i{number}", Action.CLICK))
    return one.stores.states.get(visitor).revision


def loop_of(visitors: Visitors, engine: Ranking) -> NearlineSlates:
    return NearlineSlates(cast(EngineHandle, engine), visitors, SystemClock(), slate_items=5)


def test_a_round_of_64_costs_two_calls_and_makes_what_64_rounds_of_one_make() -> None:
    async def slates_of(one: Gateway, at_once: int) -> tuple[list[Slate | None], int]:
        engine = Ranking()
        loop = NearlineSlates(cast(EngineHandle, engine), one.visitors, SystemClock(), slate_items=5, at_once=at_once)
        users = [f"u{number}" for number in range(64)]
        loop.stale.add([arrival(user, number) for number, user in enumerate(users)])
        one.calls.clear()
        while len(loop.stale):
            await loop.make_some()
        assert loop.outcomes == {Outcome.MADE: 64}
        return [one.stores.slates.get(Visitor(user)) for user in users], len(one.calls)

    async def work(one: Gateway) -> None:
        for number in range(64):
            click(one, f"u{number}", number)
        together, calls = await slates_of(one, 64)
        assert one.calls == ["GetSlateInputs", "KeepSlates"]
        for number in range(64):
            one.stores.slates.forget(Visitor(f"u{number}"))
        apart, calls = await slates_of(one, 1)
        assert calls == 128
        assert all(slate is not None for slate in together)
        assert [without_time(one) for one in together] == [without_time(one) for one in apart]

    run(work)


def without_time(slate: Slate | None) -> tuple[Any, ...]:
    assert slate is not None
    return slate.items, slate.revision, slate.bundle_version, slate.scene, slate.device, slate.asked


def test_who_is_unknown_late_forgotten_or_fails_takes_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearline, "_LONGEST_LOOKS_SECONDS", 600.0)
    monkeypatch.setattr(nearline, "_LOOKS", 100)

    async def work(one: Gateway) -> None:
        engine = Ranking(frozenset({"broken"}))
        loop = loop_of(one.visitors, engine)
        users = ("ada", "late", "broken", "forgotten", "fresh", "stranger")
        for user in users[:1] + users[2:5]:
            click(one, user)
        fresh = Slate((), click(one, "fresh"), "v1", SystemClock().now())
        one.stores.slates.keep(Visitor("fresh"), fresh)
        engine.meanwhile = lambda: one.stores.forget(Visitor("forgotten"))
        loop.stale.add([arrival(user) for user in users])
        round_ = asyncio.create_task(loop.make_some())
        while one.stores.slates.get(Visitor("ada")) is None:
            await asyncio.sleep(0.001)
        assert one.stores.slates.get(Visitor("late")) is None, "the others do not wait for who is late"
        revision = click(one, "late")
        await round_
        kept = {user: one.stores.slates.get(Visitor(user)) for user in users}
        assert [user for user, slate in kept.items() if slate is not None] == ["ada", "late", "fresh"]
        assert kept["fresh"] == fresh
        assert kept["late"] is not None
        assert (kept["late"].revision, kept["late"].scene) == (revision, "home")
        assert "i1" not in {item.item_id for item in kept["late"].items}
        # Of the forgotten one a slate was asked for before, and none kept; of the stranger nothing ever came.
        assert loop.outcomes == {Outcome.MADE: 3, Outcome.NEEDLESS: 2, Outcome.FAILED: 1}
        assert {request.user_id for request in engine.asked} == {"ada", "late", "broken", "forgotten"}
        assert all(request.background for request in engine.asked)

    with caplog.at_level(logging.INFO):
        run(work)
    assert [each.getMessage() for each in caplog.records if "slate" in each.getMessage()] == [
        "no slate was made: this one's model broke"
    ]


@pytest.mark.parametrize(("seconds", "counts"), [(600.0, [4] + [2] * 19), (0.0, [4])], ids=["patient", "hurried"])
def test_only_who_is_late_is_looked_at_again_for_so_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, counts: list[int]
) -> None:
    monkeypatch.setattr(nearline, "_LONGEST_LOOKS_SECONDS", seconds)

    class Noting:
        """The gateway's visitors, and how many were asked for at a time."""

        def __init__(self, inner: Visitors) -> None:
            self.inner = inner
            self.counts: list[int] = []

        async def inputs(self, waiting: Sequence[Waiting]) -> list[SlateInput | AsterismError]:
            self.counts.append(len(waiting))
            return await self.inner.inputs(waiting)

        async def keep(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[AsterismError | None]:
            return await self.inner.keep(slates)

        async def close(self) -> None:
            await self.inner.close()

    async def work(one: Gateway) -> None:
        visitors = Noting(one.visitors)
        loop = loop_of(visitors, Ranking())
        for user in ("ada", "bob", "eve"):
            click(one, user)
        loop.stale.add([arrival("ada"), arrival("bob"), arrival("eve", 2), arrival("never")])
        await loop.make_some()
        assert visitors.counts == counts
        assert loop.outcomes == {Outcome.MADE: 3, Outcome.NEEDLESS: 1}, "in the end the state is taken as it is"

    run(work)


def test_a_gateway_that_is_gone_fails_the_round_and_not_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        """Takes no slates, and from the second round on tells nothing either."""

        def __init__(self, inner: Visitors) -> None:
            self.inner: Visitors | None = inner

        async def inputs(self, waiting: Sequence[Waiting]) -> list[SlateInput | AsterismError]:
            if self.inner is None:
                raise StoreUnavailableError("the gateway is gone")
            inner, self.inner = self.inner, None
            return await inner.inputs(waiting)

        async def keep(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[AsterismError | None]:
            raise StoreUnavailableError("the gateway is gone")

        async def close(self) -> None:
            raise AssertionError

    async def work(one: Gateway) -> None:
        loop = loop_of(Gone(one.visitors), Ranking())
        for user in ("ada", "bob"):
            click(one, user)
        for _ in range(2):
            loop.stale.add([arrival("ada"), arrival("bob")])
            await loop.make_some()
        assert loop.outcomes == {Outcome.FAILED: 4}

    with caplog.at_level(logging.INFO):
        run(work)
    assert caplog.text.count("no slate was made: the gateway is gone") == 4
