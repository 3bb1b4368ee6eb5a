"""SIGTERM, Ctrl-C and a terminal that closes: the first lets work finish, the second does not.

A process under our supervisor minds the first alone: who ends a service by signalling all of its processes, as systemd
does, has each told twice, and it is the supervisor that kills what a second signal is to end.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def stop_signals() -> list[signal.Signals]:
    """What asks this process to stop: also that its terminal is gone, unless `nohup` has it outlive that."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if outlives else [signal.SIGHUP])]


def hurries(number: int) -> bool:
    """Whether a signal ends at once what was asked to stop before: not SIGHUP, which shell and kernel send one each."""
    return number != signal.SIGHUP


class StopSignals:
    """Listens from now on; for a running event loop."""

    def __init__(self, *, supervised: bool = False) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._supervised = supervised
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self._on_signal, number)

    async def unless_hurried(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end, or until the second signal."""
        working, hurried = asyncio.ensure_future(work), asyncio.ensure_future(self.hurried.wait())
        await asyncio.wait({working, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if working.done():
            await working
        else:
            working.cancel()

    def _on_signal(self, number: int) -> None:
        if not self.asked.is_set():
            self.asked.set()
        elif hurries(number) and not self._supervised:
            self.hurried.set()
