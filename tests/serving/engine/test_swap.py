"""Another bundle is served without a dropped request, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.bundle import Bundle
from asterism.core.errors import ModelError
from asterism.serving.engine.pool import EnginePool
from contracts.servers import children_of
from serving.engine.stepping import (
    FINISH,
    PATIENT,
    Crowd,
    SteppingEngine,
    all_ready,
    asked,
    begun,
    run,
    take_steps,
    until,
    write_variant,
)
from serving.small_market import HOLD_FILE, CooccurrenceEngine

USERS = 8  # of the other bundle, whose answers differ


def load_unless_broken(bundle: Path) -> SteppingEngine:
    if "crashing" in bundle.name:
        os._exit(7)
    return SteppingEngine(bundle)


def test_a_swap_under_load_drops_nobody_and_the_new_bundle_answers_from_then_on(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", USERS)

    async def work(engine: EnginePool) -> None:
        await all_ready(engine)
        old, replaced = engine.status, engine._fleet
        take_steps(bundle, 2)
        async with Crowd(engine) as crowd:
            await until(lambda: crowd.sent > 30)
            await engine.swap(other)
            sent_before = crowd.sent
            await until(lambda: crowd.sent > sent_before + 30)
        versions = [one.bundle_version for one in crowd.answers]
        assert set(versions[:10]) == {old.bundle_version}
        assert set(versions[sent_before:]) == {other.version}
        assert len(versions) - sent_before > 10
        expected = CooccurrenceEngine(other.path).recommend([asked("anybody")])[0].items
        assert {one.items for one in crowd.answers[sent_before:]} == {expected}
        assert expected != CooccurrenceEngine(bundle).recommend([asked("anybody")])[0].items
        status = engine.status
        assert (status.ready, status.bundle_version, len(status.engines)) == (True, other.version, 2)
        assert status.figures.failed == status.figures.shed == status.figures.late == 0
        assert status.figures.answered == len(versions), "the counts go on through a swap"
        assert not any(Path(f"/proc/{one.pid}").exists() for one in old.engines)
        assert (replaced.semantic_ids, replaced.replicas) == ({}, []), "nothing is held of the old catalogue"

    run(bundle, work, limits=replace(PATIENT, engines=2))


def test_who_waits_for_a_bundle_is_told_when_the_one_that_took_its_place_is_loaded(bundle: Path) -> None:
    other = write_variant(bundle.parent / "elsewhere" / "other", USERS)
    (bundle.parent / HOLD_FILE).touch()

    async def main() -> None:
        engine = EnginePool("serving.small_market:load_engine", Bundle.open(bundle), frozenset, PATIENT)
        engine.start()
        waiting = asyncio.create_task(engine.wait_ready())
        try:
            await engine.swap(other)
            assert engine.status.ready
            await asyncio.wait_for(waiting, 60)
        finally:
            waiting.cancel()
            await engine.stop()

    asyncio.run(main())


def test_a_bundle_that_is_served_already_is_told_of_again(bundle: Path) -> None:
    other, told = write_variant(bundle.parent / "other", USERS), []

    async def note(served: Bundle) -> None:
        told.append(served.path)

    async def work(engine: EnginePool) -> None:
        await engine.swap(other, note)
        pids = [one.pid for one in engine.status.engines]
        await engine.swap(Bundle.open(other.path), note)
        assert told == [other.path, other.path], "what could not be written down then is now"
        assert [one.pid for one in engine.status.engines] == pids

    run(bundle, work)


def test_the_old_engine_finishes_what_it_has_under_way_while_the_new_one_answers(bundle: Path) -> None:
    other = write_variant(bundle.parent / "elsewhere" / "other", USERS)

    async def work(engine: EnginePool) -> None:
        old = engine.status.bundle_version
        take_steps(bundle, 60_000)
        held = asyncio.create_task(engine.recommend(asked("held")))
        await until(lambda: "held" in begun(bundle))
        swap = asyncio.create_task(engine.swap(other))
        await asyncio.sleep(0)
        waits = asyncio.create_task(engine.recommend(asked("waits")))
        assert (await waits).bundle_version == other.version, "it waited for the only engine, and the swap freed it"
        assert not held.done()
        assert not swap.done()
        (bundle.parent / FINISH).touch()
        assert (await held).bundle_version == old
        await swap

    run(bundle, work, limits=PATIENT)


def test_a_bundle_that_cannot_be_loaded_is_refused_with_its_reason_and_the_old_one_goes_on(bundle: Path) -> None:
    reasons = {
        "unreadable": "the engine cannot be loaded: FileNotFoundError: .*histories.parquet",
        "crashing": "ended with status 7",
        "replaced": "now holds bundle",
    }
    bad = {name: write_variant(bundle.parent / name, USERS, histories=name != "unreadable") for name in reasons}
    write_variant(bundle.parent / "replaced", 12)

    async def work(engine: EnginePool) -> None:
        before = engine.status
        async with Crowd(engine) as crowd:
            for name, reason in reasons.items():
                with pytest.raises(ModelError, match=reason):
                    await engine.swap(bad[name])
            await asyncio.sleep(0.1)
        assert {one.bundle_version for one in crowd.answers} == {before.bundle_version}
        assert (engine.status.pid, engine.status.starts, engine.status.error) == (before.pid, 1, None)

    run(bundle, work, factory="serving.engine.test_swap:load_unless_broken")


def test_a_swap_heals_a_service_whose_bundle_is_gone(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", USERS)

    async def work(engine: EnginePool) -> None:
        (bundle / "manifest.json").unlink()
        os.kill(engine.status.pid or 0, signal.SIGKILL)
        await until(lambda: engine.status.starts >= 2)
        await engine.swap(other)
        assert (await engine.recommend(asked("u"))).bundle_version == other.version
        assert engine.status.error is None

    run(bundle, work)


def test_a_swap_that_is_given_up_leaves_no_process(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", USERS)

    async def work(engine: EnginePool) -> None:
        before = children()
        await engine.swap(Bundle.open(bundle))
        assert children() == before, "what is served already is not loaded again"
        swap = asyncio.create_task(engine.swap(other))
        while len(children()) == len(before):
            await asyncio.sleep(0.01)
        swap.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await swap
        assert children() == before
        assert len((await engine.recommend(asked("u"))).items) == 3

    run(bundle, work)


def children() -> set[int]:
    """The processes that this one started."""
    return children_of(os.getpid())
