"""Log and state stay together: whoever leaves or fails meanwhile, what is durable is heard, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, cast

import pytest

from asterism.core.clock import SystemClock
from asterism.core.errors import StorageError
from asterism.core.records import Action
from asterism.serving.feedback import FeedbackIntake
from asterism.serving.hot_state import HotState
from asterism.stores.event_bus import EventBus, Receipt
from asterism.stores.event_log import Event
from asterism.stores.remembered_catalogue import RememberedCatalogue
from asterism.stores.user_state import Visitor

CLICK = Event("e1", "a", Action.CLICK, 1, "ada")


class SlowBus:
    """Takes events when it is told to."""

    knows_ids: ClassVar[bool] = True

    def __init__(self) -> None:
        self.taken: list[Future[list[Receipt]]] = []

    def publish(self, events: Sequence[Event]) -> Future[list[Receipt]]:
        self.taken.append(Future())
        return self.taken[-1]


class KnownItems:
    def has_met(self, item_id: str) -> bool:
        return True


def made() -> tuple[FeedbackIntake, SlowBus, HotState]:
    bus, hot = SlowBus(), HotState({"a": ()})
    catalogue = cast(RememberedCatalogue, KnownItems())
    return FeedbackIntake(bus=cast(EventBus, bus), hot=hot, catalogue=catalogue, clock=SystemClock()), bus, hot


def seen(hot: HotState) -> Any:
    return hot.states.get(Visitor("ada")).seen


def test_a_click_is_heard_once_it_is_durable_and_a_known_one_is_not() -> None:
    async def story() -> None:
        intake, bus, hot = made()
        waiting = asyncio.ensure_future(intake.accept([CLICK]))
        await asyncio.sleep(0)
        assert not seen(hot), "it was heard before it was durable"
        bus.taken[0].set_result([Receipt(True, None)])
        assert await asyncio.wait_for(waiting, 30) == [True]
        assert seen(hot) == {"a"}
        again = asyncio.ensure_future(intake.accept([CLICK]))
        await asyncio.sleep(0)
        before = hot.states.get(Visitor("ada")).revision
        bus.taken[1].set_result([Receipt(False, None)])
        assert await asyncio.wait_for(again, 30) == [False]
        assert hot.states.get(Visitor("ada")).revision == before

    asyncio.run(story())


def test_who_leaves_does_not_part_log_and_state() -> None:
    async def story() -> None:
        intake, bus, hot = made()
        leaving = asyncio.ensure_future(intake.accept([CLICK]))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        bus.taken[0].set_result([Receipt(True, None)])
        while not seen(hot):
            await asyncio.sleep(0)
        assert seen(hot) == {"a"}

    asyncio.run(asyncio.wait_for(story(), 30))


def test_what_cannot_be_made_durable_is_not_heard() -> None:
    async def story() -> None:
        intake, bus, hot = made()
        waiting = asyncio.ensure_future(intake.accept([CLICK]))
        await asyncio.sleep(0)
        bus.taken[0].set_exception(StorageError("the disk is full"))
        with pytest.raises(StorageError, match="the disk is full"):
            await asyncio.wait_for(waiting, 30)
        assert not seen(hot)

    asyncio.run(story())


def test_what_fails_after_its_sender_has_gone_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        intake, bus, hot = made()
        leaving = asyncio.ensure_future(intake.accept([CLICK]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        bus.taken[0].set_exception(StorageError("the disk is full"))
        async with asyncio.timeout(30):
            while not caplog.messages:
                await asyncio.sleep(0.001)
        assert not seen(hot)

    asyncio.run(story())
    assert "nobody waits for any more was not taken in: the disk is full" in caplog.messages[0]
