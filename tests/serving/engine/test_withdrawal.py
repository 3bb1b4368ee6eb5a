"""Work that nobody waits for any more is dropped: in the line, on the way, and between two steps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.errors import OverloadedError
from asterism.serving.engine.pool import EnginePool
from serving.engine.stepping import FINISH, asked, begun, diary, run, take_steps, until

ENDLESS = 60_000  # steps: ten minutes, so that what ends before was left or told to end


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_cancelled_request_that_waits_is_never_decoded(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        take_steps(bundle, ENDLESS)
        first = asyncio.create_task(engine.recommend(asked("first")))
        await until(lambda: "first" in begun(bundle))
        gone, stays = (asyncio.create_task(engine.recommend(asked(name))) for name in ("gone", "stays"))
        await until(lambda: engine.status.figures.waiting == 2)
        await cancelled(gone)
        (bundle.parent / FINISH).touch()
        assert [len(one.items) for one in await asyncio.gather(first, stays)] == [3, 3]
        assert engine.status.figures.withdrawn == 1

    run(bundle, work)
    assert [note["answered"] for note in diary(bundle) if "answered" in note] == [["first"], ["stays"]]


def test_a_batch_for_which_nobody_waits_is_left_between_two_steps(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        take_steps(bundle, ENDLESS)
        held = [asyncio.create_task(engine.recommend(asked(name))) for name in ("a", "b")]
        await until(lambda: {"a", "b"} <= set(begun(bundle)))
        take_steps(bundle, 1)
        await cancelled(held[0])
        other = asyncio.create_task(engine.recommend(asked("other")))
        await asyncio.sleep(0.2)
        assert not other.done(), "somebody still waits for the batch under way"
        await cancelled(held[1])
        assert len((await asyncio.wait_for(other, 120)).items) == 3

    run(bundle, work)
    notes = [note for note in diary(bundle) if "left" in note or "answered" in note]
    assert notes[0]["left"] == ["a", "b"]
    assert 0 <= notes[0]["step"] < ENDLESS
    assert notes[1]["answered"] == ["other"]


def test_what_is_late_gives_way_to_whoever_waits_but_is_finished_where_nobody_does(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        take_steps(bundle, ENDLESS)
        deadline = time.monotonic() + 2.0
        late = asyncio.create_task(engine.recommend(replace(asked("late"), deadline=deadline)))
        await until(lambda: "late" in begun(bundle) and time.monotonic() > deadline + 0.2)
        (bundle.parent / FINISH).touch()
        assert len((await late).items) == 3, "it costs nobody anything, and its answer may serve next time"
        (bundle.parent / FINISH).unlink()
        slow = asyncio.create_task(engine.recommend(asked("slow", wait=2.0)))
        await until(lambda: "slow" in begun(bundle))
        take_steps(bundle, 1)
        waits = asyncio.create_task(engine.recommend(asked("waits", wait=120)))
        with pytest.raises(OverloadedError, match="busy for longer than"):
            await slow
        assert len((await waits).items) == 3

    run(bundle, work)
    assert [next(iter(note)) for note in diary(bundle) if "left" in note or "answered" in note] == [
        "answered",
        "left",
        "answered",
    ]


def test_a_request_whose_time_runs_out_in_the_line_is_told_so_then(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        take_steps(bundle, ENDLESS)
        first = asyncio.create_task(engine.recommend(asked("first")))
        await until(lambda: "first" in begun(bundle))
        with pytest.raises(OverloadedError, match=r"busy for longer than [\d.]+ s"):
            await engine.recommend(asked("second", wait=1.0))
        assert not first.done(), "it is told while the batch is under way"
        (bundle.parent / FINISH).touch()
        await first
        assert engine.status.figures.late == 1

    run(bundle, work)


def test_what_was_refused_for_want_of_time_is_freed_at_once(bundle: Path) -> None:
    async def refused(engine: EnginePool) -> weakref.ref[OverloadedError]:
        try:
            await engine.recommend(asked("second", wait=0.5))
        except OverloadedError as error:
            return weakref.ref(error)
        raise AssertionError("it was answered")

    async def work(engine: EnginePool) -> None:
        take_steps(bundle, ENDLESS)
        first = asyncio.create_task(engine.recommend(asked("first")))
        await until(lambda: "first" in begun(bundle))
        gc.disable()
        try:
            found = await asyncio.ensure_future(refused(engine))
            await asyncio.sleep(0)
            assert found() is None, "a cycle keeps it until a collection"
        finally:
            gc.enable()
        (bundle.parent / FINISH).touch()
        await first

    run(bundle, work)
