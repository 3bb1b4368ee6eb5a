"""An engine that says it is nearly done is sent its next batch then. The processes are real."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.serving.engine.pool import EnginePool
from asterism.serving.engine.replica import Replica
from asterism.serving.places import DEFAULT_ENGINE
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent
from asterism.serving.scheduling import ScheduledBatch
from reference_shape import item_ids_of, write_reference_bundle
from serving.engine.stepping import PATIENT, Crowd, SteppingEngine, all_ready, asked, begun, diary, run, until

FORETELLING = "serving.engine.test_sent_ahead:load_foretelling"
HELD = "held"  # a file beside the bundle: while it is there, no batch ends after its one step
WORK_SECONDS = 0.02


class ForetellingEngine(SteppingEngine):
    """Its one step is nearly all that it does, so that after some batches it says there that it is nearly done."""

    def recommend_within(
        self, requests: Sequence[EngineRequest], beam: int, wanted: Callable[[], bool]
    ) -> list[EngineAnswer]:
        users = [one.user_id for one in requests]
        with (self._folder / "begun").open("a") as file:
            file.write(json.dumps(users) + "\n")
        time.sleep(WORK_SECONDS)
        wanted()
        while (self._folder / HELD).exists():
            time.sleep(0.005)
        self._note(answered=users, beam=beam)
        return self.recommend(requests)


def load_foretelling(bundle: Path) -> ForetellingEngine:
    return ForetellingEngine(bundle)


class Order:
    """Implements `BatchWatcher`: what happened to batches, by their numbers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def begun(self, batch: ScheduledBatch, requests: Sequence[EngineRequest]) -> None:
        self.seen.append(("sent", batch.number))

    def ended(self, batch: ScheduledBatch, error: str | None) -> None:
        self.seen.append(("ended", batch.number))

    @property
    def ahead(self) -> int:
        """How many batches were sent before another one had ended."""
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return sum(one[0] == other[0] == "sent" for one, other in pairs)


async def all_held(engine: EnginePool, folder: Path, names: Sequence[str]) -> list[asyncio.Task[EngineAnswer]]:
    """Ask for somebody of each engine, which are then nearly done, and stay so."""
    scheduler = engine._fleet.scheduler
    lessons = 5
    while True:
        for _ in range(lessons):
            await asyncio.gather(*(engine.recommend(asked(f"lesson-{number}")) for number in range(len(names))))
        (folder / HELD).touch()
        held = []
        for name in names:
            before = begun(folder / "bundle")[name]
            held.append(asyncio.create_task(engine.recommend(asked(name))))
            await until(lambda name=name, before=before: begun(folder / "bundle")[name] > before)  # type: ignore[misc]
        end = time.monotonic() + 0.5
        while len(scheduler._next) < len(names) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        if len(scheduler._next) == len(names):
            return held
        (folder / HELD).unlink()  # an engine was held up by something else as well
        await asyncio.gather(*held)
        lessons = 70  # so long what it has seen now has weight


def test_the_next_batch_is_there_before_the_one_under_way_has_ended(bundle: Path) -> None:
    order = Order()

    async def work(engine: EnginePool) -> None:
        (first,) = await all_held(engine, bundle.parent, ["first"])
        engine.watch_batches(order)
        second = asyncio.create_task(engine.recommend(asked("second")))
        await until(lambda: len(order.seen) == 1)
        third = asyncio.create_task(engine.recommend(asked("third")))
        await until(lambda: engine.status.figures.waiting == 1)
        await asyncio.sleep(0.1)
        assert (len(order.seen), engine.status.figures.under_way, first.done()) == (1, 2, False)
        assert begun(bundle)["second"] == 0, "it is there, and has not begun"
        (bundle.parent / HELD).unlink()
        answers = await asyncio.gather(first, second, third)
        assert [len(one.items) for one in answers] == [3] * 3

    run(bundle, work, factory=FORETELLING)
    assert [note["answered"] for note in diary(bundle) if "answered" in note][-3:] == [["first"], ["second"], ["third"]]


def test_who_was_sent_ahead_and_leaves_is_not_decoded(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (first,) = await all_held(engine, bundle.parent, ["first"])
        gone = asyncio.create_task(engine.recommend(asked("gone")))
        await until(lambda: engine.status.figures.under_way == 2)
        gone.cancel()
        await asyncio.wait({gone})
        (bundle.parent / HELD).unlink()
        await first
        assert len((await engine.recommend(asked("last"))).items) == 3

    run(bundle, work, factory=FORETELLING)
    assert (begun(bundle)["gone"], begun(bundle)["last"]) == (0, 1)


@pytest.mark.parametrize("follows", [False, True])
def test_what_is_late_gives_way_to_who_waits_at_the_engine(
    bundle: Path, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []

    async def work(engine: EnginePool) -> None:
        (first,) = await all_held(engine, bundle.parent, ["first"])
        (late,) = engine._shared.pending._by_number.values()
        asking = [first]
        if follows:
            asking.append(asyncio.create_task(engine.recommend(asked("second"))))
            await until(lambda: engine.status.figures.under_way == 2)
        monkeypatch.setattr(Replica, "withdraw", lambda replica, batch, row: left.append(row))
        engine._expire(late.ticket)  # its time has run out
        (bundle.parent / HELD).unlink()
        await asyncio.gather(*asking)

    run(bundle, work, factory=FORETELLING)
    assert left == [0] * follows


def test_kill_9_of_an_engine_that_holds_two_batches_fails_nobody(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        held = await all_held(engine, bundle.parent, ["first", "second"])
        held.append(asyncio.create_task(engine.recommend(asked("third"))))
        await until(lambda: engine.status.figures.under_way == 3)
        (replica,) = (one for one in engine._fleet.replicas if len(one._batches) == 2)
        os.kill(replica.pid or 0, signal.SIGKILL)
        await until(lambda: replica.pid is None or len(replica._batches) == 0)
        (bundle.parent / HELD).unlink()
        answers = await asyncio.wait_for(asyncio.gather(*held), 120)
        assert [len(one.items) for one in answers] == [3] * 3
        assert engine.status.figures.failed == 0

    run(bundle, work, limits=replace(PATIENT, engines=2), factory=FORETELLING)


def test_the_one_engine_that_dies_with_two_batches_leaves_nobody_waiting(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (first,) = await all_held(engine, bundle.parent, ["first"])
        second = asyncio.create_task(engine.recommend(asked("second")))
        await until(lambda: engine.status.figures.under_way == 2)
        os.kill(engine.status.pid or 0, signal.SIGKILL)
        found = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 120)
        assert all("ended with status -9" in str(one) for one in found)
        (bundle.parent / HELD).unlink()
        await all_ready(engine)
        assert len((await engine.recommend(asked("third"))).items) == 3

    run(bundle, work, factory=FORETELLING)


def test_an_engine_that_is_never_without_a_batch_is_not_taken_for_one_that_hangs(bundle: Path) -> None:
    order = Order()

    async def work(engine: EnginePool) -> None:
        engine.watch_batches(order)
        async with Crowd(engine) as crowd:
            await asyncio.sleep(2.0)
        assert len(crowd.answers) == crowd.sent
        assert engine.status.starts == 1

    run(bundle, work, limits=replace(PATIENT, batch_timeout_seconds=1.0), factory=FORETELLING)
    assert order.ahead > 0


def test_a_hanging_engine_is_killed_though_another_batch_waits_there(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (first,) = await all_held(engine, bundle.parent, ["first"])
        second = asyncio.create_task(engine.recommend(asked("second")))
        found = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 120)
        assert all("did not answer within 3 s" in str(one) for one in found)
        (bundle.parent / HELD).unlink()

    run(bundle, work, limits=replace(PATIENT, batch_timeout_seconds=3.0), factory=FORETELLING)


def test_the_trained_generator_says_it_too(tmp_path: Path) -> None:
    reference = write_reference_bundle(tmp_path / "bundle", items=300, beam=40).path
    order, drawn = Order(), random.Random(0)

    async def work(engine: EnginePool) -> None:
        engine.watch_batches(order)
        asking = []
        async with asyncio.timeout(120):
            while not order.ahead:
                history = [HistoryEvent(1000 + one, drawn.choice(item_ids_of(300)), "click") for one in range(20)]
                asking.append(asyncio.create_task(engine.recommend(EngineRequest(tuple(history), 10))))
                await asyncio.sleep(0.001)
            assert {len(one.items) for one in await asyncio.gather(*asking)} == {10}

    run(reference, work, limits=PATIENT, factory=DEFAULT_ENGINE)
