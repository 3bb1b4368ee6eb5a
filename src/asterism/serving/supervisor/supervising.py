"""Keeps the processes of a deployment alive, and ends them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from asterism.serving.stopping import StopSignals
from asterism.serving.supervisor.child import Child, ChildSpec
from asterism.serving.supervisor.run_folder import RunFolder


async def supervise(specs: Sequence[ChildSpec], folder: RunFolder, on_stop: Callable[[], None]) -> int:
    """Start all, and keep them alive until SIGTERM or SIGINT; then stop one after the other, the last one first.

    One that ends meanwhile is not started again. A second signal kills what is left. Returns 0, or the status of a
    process that refused to start, which ends the others too; it said why. `on_stop` is called before the first is
    stopped.
    """
    signals = StopSignals()
    children = [Child(one, folder) for one in specs]
    ready = {one.name: one.was_ready for one in children}
    keeping = {
        one.name: asyncio.create_task(one.keep(ready[spec.follows] if spec.follows else None), name=one.name)
        for one, spec in zip(children, specs, strict=True)
    }
    asked = asyncio.create_task(signals.asked.wait())
    hurried = asyncio.create_task(_kill_when(signals, children))
    try:
        await asyncio.wait({asked, *keeping.values()}, return_when=asyncio.FIRST_COMPLETED)
        for one in children:
            one.retire()
        on_stop()
        for one in reversed(children):
            one.stop()
            await asyncio.wait({keeping[one.name]})
        return max((task.result() for task in keeping.values()), default=0)
    finally:
        asked.cancel()
        hurried.cancel()
        for one in children:
            one.kill()


async def _kill_when(signals: StopSignals, children: Sequence[Child]) -> None:
    await signals.hurried.wait()
    for one in children:
        one.kill()
