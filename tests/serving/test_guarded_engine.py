"""An engine behind its breaker: refused at once while it hangs, asked again in a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asterism.core.clock import ManualClock
from asterism.core.errors import ModelError, OverloadedError
from asterism.serving.breaker import GuardedEngine
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.stores.breaker import BreakerState

ASKED = EngineRequest(history=(), count=1)


class Scripted:
    """An engine that does as it is told."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.asked = 0

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        self.asked += 1
        result = self.act()
        return await result if asyncio.iscoroutine(result) else result

    def __getattr__(self, name: str) -> Any:
        return f"the engine's {name}"


def raising(error: Exception) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


async def errors_of(engine: GuardedEngine, times: int) -> list[str]:
    said = []
    for _ in range(times):
        try:
            await engine.recommend(ASKED)
        except (ModelError, OverloadedError) as error:
            said.append(str(error))
    return said


def test_an_engine_that_fails_is_left_alone_and_tried_again() -> None:
    clock = ManualClock()
    inner = Scripted(raising(ModelError("dead")))
    engine = GuardedEngine(inner, 0.2, clock.now)  # type: ignore[arg-type]
    said = asyncio.run(errors_of(engine, 30))
    assert (inner.asked, said.count("dead"), engine.breaker_state) == (20, 20, BreakerState.OPEN)
    assert said[-1] == "the engine failed or was slow too often just now; it is asked again in a moment"
    clock.advance(0.5)
    inner.act = lambda: EngineAnswer(())
    assert asyncio.run(errors_of(engine, 30)) == []
    assert engine.breaker_state is BreakerState.CLOSED


def test_an_engine_that_hangs_is_noticed_before_any_call_has_ended() -> None:
    clock = ManualClock()
    inner = Scripted(lambda: asyncio.sleep(3600))
    engine = GuardedEngine(inner, 0.2, clock.now)  # type: ignore[arg-type]

    async def hang() -> None:
        waiting = [asyncio.create_task(engine.recommend(ASKED)) for _ in range(20)]
        await asyncio.sleep(0)
        clock.advance(0.2)
        with pytest.raises(ModelError, match="asked again in a moment"):
            await engine.recommend(ASKED)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(hang())
    assert inner.asked == 20


def test_an_engine_that_turns_requests_away_at_once_is_asked_on() -> None:
    inner = Scripted(raising(OverloadedError("full")))
    engine = GuardedEngine(inner, 0.2, ManualClock().now)  # type: ignore[arg-type]
    assert asyncio.run(errors_of(engine, 50)) == ["full"] * 50
    assert engine.breaker_state is BreakerState.CLOSED


def test_the_rest_is_the_engines_own() -> None:
    engine = GuardedEngine(Scripted(lambda: None), 0.2)  # type: ignore[arg-type]
    assert engine.status == "the engine's status"
