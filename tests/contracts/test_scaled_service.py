"""A service on PostgreSQL, Redis, Kafka and chDB, with two gateways and a worker: one service, through outages."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from asterism.core.records import Action
from asterism.serving.recommendation import Source
from asterism.serving.worker.group import GroupState
from asterism.stores.opening import open_history, open_hot
from asterism.stores.user_state import Visitor
from contracts.deployment import ADA, NOW, Place, event, served, shown, until


def test_two_gateways_and_a_worker_are_one_service(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")
    taken = [event(0, "mugs-00"), event(1, "mugs-03", Action.DISLIKE), event(2, "mugs-03"), event(3, "tents-01")]

    async def use() -> None:
        assert await here.feedback.accept(taken[:3]) == [True] * 3
        source, items = await shown(here)
        assert (source, {"mugs-00", "mugs-03"} & set(items)) == (Source.MODEL, set()), "read what was written"
        assert await there.feedback.accept([taken[0], taken[3], taken[3]]) == [False, True, False]
        assert "tents-01" not in (await shown(here))[1], "one gateway hears the other"
        past = await here.hot.state_of(Visitor("u1"))
        assert len(past.recent) == 5, "a visitor begins with the histories of the bundle"
        before = await here.hot.state_of(ADA)
        assert [one.item_id for one in before.recent] == ["mugs-00", "mugs-03", "tents-01"]
        assert before.negative == ()
        worker = place.worker("behaviours", "history", "state")
        await until(lambda: all(one.handled == 4 for one in worker.groups))
        assert await here.hot.state_of(ADA) == before, "what the gateways brought ahead is not taken twice"
        assert here.users.history(ADA, 10) == taken
        hot = open_hot(place.stores.state)
        assert hot.counts.read() == {"mugs-00": 1, "mugs-03": 1, "tents-01": 1}
        hot.close()
        worker.stop()
        history = open_history(place.stores.history)
        rows = [row for table in history.events(NOW, NOW + 10) for row in table.column("event_id").to_pylist()]
        assert sorted(rows) == ["e0", "e1", "e2", "e3"]
        history.close()
        await there.stop()

    asyncio.run(served(here, use))


def test_feedback_needs_the_bus_alone(place: Place) -> None:
    gateway = place.gateway("gateway", timeout_seconds=2.0)  # so soon it does without

    async def use() -> None:
        await gateway.feedback.accept([event(0, "mugs-00")])
        worker = place.worker("behaviours", "state", timeout_seconds=2.0)  # so soon it pauses
        behaviours, states = worker.groups
        await until(lambda: behaviours.handled == states.handled == 1)
        place.redis.kill()
        place.postgres.freeze()
        try:
            assert await gateway.feedback.accept([event(1, "mugs-01")]) == [True], "known items need no database"
            assert await gateway.feedback.accept([event(2, "a-new-item")]) == [True], "nor does one that is not known"
            source, items = await shown(gateway, Visitor("a stranger"), 10)
            assert (source, len(items)) == (Source.POPULAR, 10)
            await until(lambda: {behaviours.state, states.state} == {GroupState.PAUSED})
            assert "PostgreSQL" in (behaviours.last_error or "")
            assert "Redis" in (states.last_error or "")
        finally:
            place.postgres.thaw()
        place.redis.start()
        await until(lambda: behaviours.handled == states.handled == 3)
        await until(lambda: {one.state for one in worker.groups} == {GroupState.RUNNING})
        assert [one.event_id for one in gateway.users.history(ADA, 10)] == ["e0", "e1", "e2"]
        while not (state := await gateway.hot.state_of(ADA)).recent:
            await asyncio.sleep(0.1)
        assert [one.item_id for one in state.recent] == ["mugs-00", "mugs-01", "a-new-item"]
        worker.stop()

    asyncio.run(served(gateway, use))


@pytest.mark.parametrize("seconds", [-7 * 86_400.0, 7 * 86_400.0])
def test_a_clock_that_jumps_loses_and_doubles_nothing(place: Place, seconds: float) -> None:
    gateway = place.gateway("gateway")

    async def use() -> None:
        await gateway.feedback.accept([event(0, "mugs-00")])
        place.clock.advance(seconds)
        late = replace(event(1, "mugs-01"), timestamp=NOW - 3_600)
        if seconds < 0:
            late = replace(late, timestamp=int(place.clock.now()))
        assert await gateway.feedback.accept([late]) == [True]
        assert await gateway.feedback.accept([late]) == [False]
        state = await gateway.hot.state_of(ADA)
        assert [one.item_id for one in state.recent] == ["mugs-01", "mugs-00"], "by the time at which it was done"
        source, items = await shown(gateway)
        assert (source, {"mugs-00", "mugs-01"} & set(items)) == (Source.MODEL, set())

    asyncio.run(served(gateway, use))
