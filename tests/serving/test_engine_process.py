"""The engine in its own process: batches, limits, failures, restarts. The process is real in every test."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError, ConfigError, ModelError, OverloadedError
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from asterism.serving.engine.worker import load_factory
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent
from serving.engine.stepping import until
from serving.small_market import DELAY_FILE, ITEM_IDS, CooccurrenceEngine

TESTS = Path(__file__).parents[1]
HISTORY = (HistoryEvent(1000, "lamps-03", "click"), HistoryEvent(1001, "item of another bundle", "click"))


class FailingEngine(CooccurrenceEngine):
    """Cannot bear a certain item, and forgets to answer about another."""

    def recommend(self, requests: list[EngineRequest]) -> list[EngineAnswer]:  # type: ignore[override]
        if any("lamps-13" in request.excluded for request in requests):
            raise ValueError("thirteen")
        answers = super().recommend(requests)
        return answers[:-1] if any("lamps-12" in request.excluded for request in requests) else answers


def load_failing(bundle: Path) -> FailingEngine:
    return FailingEngine(bundle)


def load_misfit(bundle: Path) -> CooccurrenceEngine:
    raise BundleError("the model is of another kind")


def load_wrongly(bundle: Path) -> CooccurrenceEngine:
    raise ZeroDivisionError("division by zero")


def load_dying_once(bundle: Path) -> CooccurrenceEngine:
    died = bundle.parent / "died"
    if not died.exists():
        died.touch()
        os._exit(3)
    return CooccurrenceEngine(bundle)


def run(
    bundle: Path,
    work: Callable[[EnginePool], Awaitable[None]],
    *,
    factory: str = "serving.small_market:load_engine",
    limits: EngineLimits | None = None,
    unavailable: Callable[[], frozenset[str]] = frozenset,
) -> None:
    async def main() -> None:
        engine = EnginePool(factory, Bundle.open(bundle), unavailable, limits or EngineLimits(max_wait_seconds=60))
        engine.start()
        try:
            await asyncio.wait_for(engine.wait_ready(), 120)
            await work(engine)
        finally:
            await engine.stop()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _child_finds_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent / "src")]))


def test_the_process_answers_as_the_engine_does(bundle: Path) -> None:
    requests = [EngineRequest(HISTORY, count, frozenset({"lamps-05"})) for count in (1, 5, 100)]
    expected = CooccurrenceEngine(bundle).recommend(requests)
    version = Bundle.open(bundle).version

    async def work(engine: EnginePool) -> None:
        answers = await asyncio.gather(*map(engine.recommend, requests))
        assert [one.items for one in answers] == [one.items for one in expected]
        assert {(one.bundle_version, one.beam, one.degraded) for one in answers} == {(version, None, False)}
        assert engine.semantic_id("mugs-01") == (1, 1, 0)
        assert engine.semantic_id("nothing") is None

    run(bundle, work)


def test_what_becomes_unavailable_is_left_out_from_then_on(bundle: Path) -> None:
    gone: set[str] = set()

    async def work(engine: EnginePool) -> None:
        request = EngineRequest(HISTORY, 100)
        assert len((await engine.recommend(request)).items) == len(ITEM_IDS)
        gone.update({"lamps-00", "mugs-00"})
        for _ in range(2):
            assert gone.isdisjoint(one.item_id for one in (await engine.recommend(request)).items)
        gone.clear()
        assert len((await engine.recommend(request)).items) == len(ITEM_IDS)

    run(bundle, work, unavailable=lambda: frozenset(gone))


def test_an_exception_fails_its_batch_and_the_process_lives(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        with pytest.raises(ModelError, match="ValueError: thirteen"):
            await engine.recommend(EngineRequest(HISTORY, 3, frozenset({"lamps-13"})))
        assert len((await engine.recommend(EngineRequest(HISTORY, 3))).items) == 3
        assert engine.status.starts == 1

    run(bundle, work, factory="serving.test_engine_process:load_failing")


def test_an_engine_that_forgets_an_answer_is_started_again(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        with pytest.raises(ModelError, match="0 answers to 1 requests"):
            await engine.recommend(EngineRequest(HISTORY, 3, frozenset({"lamps-12"})))
        await until(lambda: engine.status.starts == 2)
        await asyncio.wait_for(engine.wait_ready(), 120)
        assert len((await engine.recommend(EngineRequest(HISTORY, 3))).items) == 3
        assert engine.status.starts == 2

    run(bundle, work, factory="serving.test_engine_process:load_failing")


def test_a_hanging_engine_is_killed_and_started_again(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        first_pid = engine.status.pid
        (bundle.parent / DELAY_FILE).write_text("60")
        with pytest.raises(ModelError, match=r"did not answer within 2 s"):
            await engine.recommend(EngineRequest(HISTORY, 3))
        (bundle.parent / DELAY_FILE).unlink()
        await until(lambda: engine.status.starts == 2)
        await asyncio.wait_for(engine.wait_ready(), 120)
        assert engine.status.pid != first_pid
        assert len((await engine.recommend(EngineRequest(HISTORY, 3))).items) == 3

    run(bundle, work, limits=EngineLimits(batch_timeout_seconds=2, max_wait_seconds=60))


def test_a_killed_process_fails_what_it_held(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / DELAY_FILE).write_text("60")
        held = asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 3)))
        await until(lambda: engine.status.figures.under_way == 1)
        waits = asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 3)))
        await until(lambda: engine.status.figures.waiting == 1)
        os.kill(engine.status.pid or 0, signal.SIGKILL)
        for one in (held, waits):
            with pytest.raises(ModelError, match="ended with status -9"):
                await asyncio.wait_for(one, 120)
        with pytest.raises(ModelError, match="not ready"):
            await engine.recommend(EngineRequest(HISTORY, 3))

    run(bundle, work)


def test_too_many_waiting_requests_are_refused_at_once(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / DELAY_FILE).write_text("600")
        first = asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 1)))
        await until(lambda: engine.status.figures.under_way == 1)
        waiting = [asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 1))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 requests wait"):
            await engine.recommend(EngineRequest(HISTORY, 1))
        (bundle.parent / DELAY_FILE).unlink()
        assert all(len(answer.items) == 1 for answer in await asyncio.gather(first, *waiting))

    run(bundle, work, limits=EngineLimits(max_pending=2, max_wait_seconds=60))


def test_who_waited_too_long_makes_room_for_those_who_still_wait(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        (bundle.parent / DELAY_FILE).write_text("600")
        first = asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 1)))
        await until(lambda: engine.status.figures.under_way == 1)
        soon = time.monotonic() + 1.0
        too_old = asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 1, deadline=soon)))
        young = asyncio.ensure_future(engine.recommend(EngineRequest(HISTORY, 1)))
        with pytest.raises(OverloadedError, match=r"busy for longer than [\d.]+ s"):
            await too_old
        assert not first.done(), "it is told while the batch is under way"
        assert not young.done()
        (bundle.parent / DELAY_FILE).unlink()
        assert [len(answer.items) for answer in await asyncio.gather(first, young)] == [1, 1]

    run(bundle, work, limits=EngineLimits(max_wait_seconds=120))


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("serving.small_market:nothing", "ConfigError: the engine 'serving.small_market:nothing' cannot be imported"),
        ("serving.test_engine_process:load_misfit", "BundleError: the model is of another kind"),
        ("serving.test_engine_process:load_wrongly", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_engine_that_refuses_at_first_is_left_alone_and_says_why(bundle: Path, factory: str, reason: str) -> None:
    async def main() -> None:
        engine = EnginePool(factory, Bundle.open(bundle), frozenset)
        engine.start()
        with pytest.raises(ModelError, match=reason):
            await asyncio.wait_for(engine.wait_ready(), 120)
        await asyncio.sleep(0.3)  # longer than the pause before a second start
        status = engine.status
        assert (status.ready, status.pid, status.starts) == (False, None, 1)
        with pytest.raises(ModelError, match=reason):
            await engine.recommend(EngineRequest(HISTORY, 1))
        await engine.stop()

    asyncio.run(main())


def test_an_engine_that_dies_while_it_loads_at_first_is_started_again(bundle: Path) -> None:
    async def work(engine: EnginePool) -> None:
        assert engine.status.starts == 2
        assert len((await engine.recommend(EngineRequest(HISTORY, 3))).items) == 3

    run(bundle, work, factory="serving.test_engine_process:load_dying_once")


def test_a_bundle_put_in_place_of_the_served_one_is_refused_until_it_is_back(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(engine: EnginePool) -> None:
        manifest = bundle / "manifest.json"
        served = manifest.read_text()
        manifest.write_text(served.replace(Bundle.open(bundle).version, "of-tomorrow"))
        os.kill(engine.status.pid or 0, signal.SIGKILL)
        await until(lambda: engine.status.starts >= 3)
        assert "now holds bundle of-tomorrow" in (engine.status.error or "")
        manifest.write_text(served)
        await asyncio.wait_for(engine.wait_ready(), 120)
        assert len((await engine.recommend(EngineRequest(HISTORY, 3))).items) == 3

    with caplog.at_level(logging.ERROR):
        run(bundle, work)
    assert "start the service again; the engine is started again in" in caplog.text


@pytest.mark.parametrize("name", ["nowhere:load", "serving.small_market:nothing", "serving.small_market", ""])
def test_a_wrong_engine_name_is_a_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="module:function"):
        load_factory(name)
