"""Several engines behind one line: all work, one may die, each may keep to a core."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.bundle import Bundle
from asterism.core.errors import ModelError
from asterism.serving.engine import messages
from asterism.serving.engine.child import EngineChild
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from serving.engine.stepping import (
    BEAM,
    FACTORY,
    FINISH,
    PATIENT,
    STEPS,
    Crowd,
    all_ready,
    asked,
    begun,
    diary,
    run,
    take_steps,
    until,
)
from serving.small_market import ITEM_IDS


def test_kill_9_of_one_engine_under_load_fails_nobody(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        take_steps(bundle, 3)
        async with Crowd(engine) as crowd:
            await until(lambda: crowd.sent > 30)
            os.kill(engine.status.pid or 0, signal.SIGKILL)
            await until(lambda: crowd.sent > 80)
            assert engine.status.ready
        assert len(crowd.answers) == crowd.sent > 80
        assert engine.status.figures.failed == 0
        (bundle.parent / STEPS).unlink()
        await asyncio.wait_for(all_ready(engine), 120)
        assert [one.starts for one in engine.status.engines] == [2, 1]

    run(bundle, work, limits=replace(PATIENT, engines=2))


@pytest.mark.parametrize("what", ["another batch", "no message", "no text", "a fault of ours"])
def test_an_engine_that_answers_what_nobody_asked_is_started_again_and_nobody_waits_in_vain(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Without a deadline, so that nothing but the engine's end can answer."""
    reply, odd = EngineChild.reply, asyncio.Event()

    async def reply_oddly(child: EngineChild) -> messages.Reply:
        found = await reply(child)
        if odd.is_set():
            return found
        odd.set()
        if what == "another batch":
            return messages.Reply(found.batch + 7)
        if what == "a fault of ours":
            raise LookupError("nobody thought of this")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(EngineChild, "_receive", _nonsense if what == "no message" else _no_text)
            return await reply(child)

    monkeypatch.setattr(EngineChild, "reply", reply_oddly)

    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        told = {"another batch": "was not given", "a fault of ours": "nobody thought of this"}.get(
            what, "is no message"
        )
        with pytest.raises(ModelError, match=told):
            await asyncio.wait_for(engine.recommend(asked("ann")), 60)
        await asyncio.wait_for(all_ready(engine), 120)
        assert engine.status.starts == 2
        assert (await engine.recommend(asked("ann"))).items

    run(bundle, work)


async def _nonsense(_: EngineChild) -> bytes:
    return b"\xc1"


async def _no_text(_: EngineChild) -> bytes:
    return b"\x94\x01\x90\xa1\xff\x80"


def test_a_request_that_kills_every_engine_that_takes_it_is_not_tried_for_ever(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        take_steps(bundle, 60_000)
        held = asyncio.create_task(engine.recommend(asked("poison")))
        for times in (1, 2):
            await until(lambda times=times: begun(bundle)["poison"] == times)  # type: ignore[misc]
            (busy,) = engine._shared.pending._by_number.values()
            assert busy.place is not None
            os.kill(busy.place.replica.pid or 0, signal.SIGKILL)
        with pytest.raises(ModelError, match="ended with status -9"):
            await asyncio.wait_for(held, 120)

    run(bundle, work, limits=replace(PATIENT, engines=2))


def test_two_engines_work_at_the_same_time(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        take_steps(bundle, 60_000)
        first = asyncio.create_task(engine.recommend(asked("first")))
        await until(lambda: set(begun(bundle)) == {"first"})
        second = asyncio.create_task(engine.recommend(asked("second")))
        await until(lambda: set(begun(bundle)) == {"first", "second"})
        assert not first.done(), "one after the other, the second would begin when the first is answered"
        (bundle.parent / FINISH).touch()
        await asyncio.gather(first, second)

    run(bundle, work, limits=replace(PATIENT, engines=2))


def test_an_engine_that_is_asked_often_may_wait_for_company_and_lives(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        async with Crowd(engine, every_seconds=0.001) as crowd:
            await until(lambda: crowd.sent > 1000)
        figures = engine.status.figures
        assert (figures.answered, figures.failed) == (crowd.sent, 0)
        assert engine.status.engines[0].starts == 1

    run(bundle, work)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to a core")
def test_pinned_engines_keep_to_a_core_each(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        allowed = sorted(os.sched_getaffinity(0))
        pinned = [os.sched_getaffinity(one.pid or 0) for one in engine.status.engines]
        assert pinned == [{allowed[number % len(allowed)]} for number in range(3)]

    run(bundle, work, limits=EngineLimits(engines=3, pin=True))


def test_items_come_and_go_between_batches_and_only_what_changed_is_sent(bundle: Path) -> None:
    gone: set[str] = set()

    async def work(engine: EnginePool) -> None:
        for change in ({"lamps-00", "mugs-00"}, {"lamps-00"}, {"lamps-00"}, set[str]()):
            gone.clear()
            gone.update(change)
            found = await engine.recommend(asked("u", count=100))
            assert {one.item_id for one in found.items} == set(ITEM_IDS) - change

    run(bundle, work, unavailable=lambda: frozenset(gone))
    assert [(one["available"], one["items"]) for one in diary(bundle) if one.get("items")] == [
        (False, ["lamps-00", "mugs-00"]),
        (True, ["mugs-00"]),
        (True, ["lamps-00"]),
    ]


def test_the_status_tells_widths_sizes_and_figures(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        answer = await engine.recommend(asked("u"))
        assert (answer.beam, answer.degraded) == (BEAM, False)
        status = engine.status
        assert status.widths[0] == BEAM
        assert status.engines[0].kept_bytes == {"states": 1234}
        assert (status.figures.answered, status.figures.batches, status.figures.widths) == (1, 1, {BEAM: 1})
        assert (status.figures.waiting, status.figures.under_way) == (0, 0)
        assert 0 < status.figures.lone_ms < 1000
        assert (await engine.recommend(asked("u", count=BEAM + 4))).beam == BEAM + 4, "as wide as the answer is long"

    run(bundle, work)


def test_a_narrowest_beam_that_is_none_is_a_sentence(bundle: Path) -> None:
    async def main() -> None:
        engine = EnginePool(FACTORY, Bundle.open(bundle), frozenset, EngineLimits(min_beam=BEAM + 1))
        engine.start()
        with pytest.raises(ModelError, match="narrowest beam is 9; give one from 1 to the configured beam of 8"):
            await asyncio.wait_for(engine.wait_ready(), 120)
        await engine.stop()

    asyncio.run(main())


def imported(module: str, suspects: Iterable[str]) -> list[str]:
    code = f"import sys, {module}; print([one for one in {list(suspects)!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [name.strip("'[] ") for name in done.stdout.strip().split(",") if name.strip("'[] ")]


def test_the_service_decides_without_the_weight_of_a_model() -> None:
    assert imported("asterism.serving.service", ["torch", "scipy", "asterism.decoding", "numpy"]) == ["numpy"]
