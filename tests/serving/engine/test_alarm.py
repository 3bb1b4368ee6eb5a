"""A call at the earliest moment asked for, on asyncio's loop and on the one that engines have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest
import uvloop

from asterism.serving.engine.alarm import Alarm
from serving.engine.stepping import until

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_it_calls_once_at_the_earliest_moment_and_can_be_set_again(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    calls: list[float] = []

    async def main() -> None:
        alarm = Alarm(lambda: calls.append(time.monotonic()))
        for delays in ((600.0, 0.1, 300.0), (-1.0, 0.0, 500.0), (0.0002,)):
            began = time.monotonic()
            for delay in delays:
                alarm.set(began + delay)
            await until(lambda: len(calls) > 0)
            await asyncio.sleep(0.2)
            assert len(calls) == 1, "one call for all"
            assert calls.pop() - began > min(delays) - 0.002

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_who_is_called_may_set_it(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    rounds: list[int] = []

    async def main() -> None:
        def go_on(done: asyncio.Event) -> None:
            rounds.append(len(rounds))
            if len(rounds) == 5:
                done.set()
            else:
                alarm.set(time.monotonic() - 0.01)

        done = asyncio.Event()
        alarm = Alarm(partial(go_on, done))
        alarm.set(time.monotonic())
        await asyncio.wait_for(done.wait(), 60)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert rounds == [0, 1, 2, 3, 4]
