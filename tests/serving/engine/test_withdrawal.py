"""Work that nobody waits for any more is dropped: in the line, on the way, and between two steps."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from asterism.core.errors import OverloadedError
from asterism.serving.engine.pool import EnginePool
from serving.engine.stepping import STEPS, asked, diary, run


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_cancelled_request_that_waits_is_never_decoded(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / STEPS).write_text("20")
        first = asyncio.create_task(engine.recommend(asked("first")))
        await asyncio.sleep(0.05)
        gone, stays = (asyncio.create_task(engine.recommend(asked(name))) for name in ("gone", "stays"))
        await asyncio.sleep(0.05)
        await cancelled(gone)
        assert [len(one.items) for one in await asyncio.gather(first, stays)] == [3, 3]
        assert engine.status.figures.withdrawn == 1

    run(bundle, work)
    assert [note["answered"] for note in diary(bundle) if "answered" in note] == [["first"], ["stays"]]


def test_a_batch_for_which_nobody_waits_is_left_between_two_steps(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / STEPS).write_text("300")
        held = [asyncio.create_task(engine.recommend(asked(name))) for name in ("a", "b")]
        await asyncio.sleep(0.2)
        (bundle.parent / STEPS).write_text("1")
        await cancelled(held[0])
        await asyncio.sleep(0.1)
        started = time.monotonic()
        other = asyncio.create_task(engine.recommend(asked("other")))
        await asyncio.sleep(0.1)
        assert not other.done(), "somebody still waits for the batch under way"
        await cancelled(held[1])
        assert len((await other).items) == 3
        assert time.monotonic() - started < 2.0, "the batch would have taken three seconds"

    run(bundle, work)
    notes = [note for note in diary(bundle) if "left" in note or "answered" in note]
    assert notes[0]["left"] == ["a", "b"]
    assert 5 < notes[0]["step"] < 200
    assert notes[1]["answered"] == ["other"]


def test_what_is_late_gives_way_to_whoever_waits_but_is_finished_where_nobody_does(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / STEPS).write_text("40")
        late = await engine.recommend(asked("late", wait=0.1))
        assert len(late.items) == 3, "it costs nobody anything, and its answer may serve next time"
        (bundle.parent / STEPS).write_text("300")
        slow = asyncio.create_task(engine.recommend(asked("slow", wait=0.3)))
        await asyncio.sleep(0.1)
        (bundle.parent / STEPS).write_text("1")
        waits = asyncio.create_task(engine.recommend(asked("waits", wait=5)))
        with pytest.raises(OverloadedError, match="busy for longer than"):
            await slow
        assert len((await asyncio.wait_for(waits, 2)).items) == 3

    run(bundle, work)
    assert [next(iter(note)) for note in diary(bundle) if "left" in note or "answered" in note] == [
        "answered",
        "left",
        "answered",
    ]


def test_a_request_whose_time_runs_out_in_the_line_is_told_so_then(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / STEPS).write_text("100")
        first = asyncio.create_task(engine.recommend(asked("first")))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        with pytest.raises(OverloadedError, match=r"busy for longer than 0\.2"):
            await engine.recommend(asked("second", wait=0.2))
        assert 0.15 < time.monotonic() - started < 0.6, "not only when the batch of a second ends"
        await first
        assert engine.status.figures.late == 1

    run(bundle, work)
