"""An engine that can be watched while it works, and a pool over it. The processes are real."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file
from uvicorn.loops.auto import auto_loop_factory

from asterism.core import parts
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.errors import AbandonedError
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent
from serving.small_market import CooccurrenceEngine, histories_table, item_vectors, items_table

FACTORY = "serving.engine.stepping:load_stepping"
HISTORY = (HistoryEvent(1000, "lamps-03", "click"),)
BEAM = 8
DIARY = "diary.jsonl"
FINISH = "finish"  # a file beside the bundle, where batches under way are to end
STEPS = "steps"  # a file beside the bundle: how many steps of 10 ms a batch takes
#: So that nothing ends by itself, however many wait.
PATIENT = EngineLimits(max_wait_seconds=600, batch_timeout_seconds=600, max_pending=100_000)
_BEGUN = "begun"  # a file beside the bundle: a line for each batch that an engine has taken up
_PATIENCE_SECONDS = 120.0  # far more than anything takes on a slow machine


class SteppingEngine(CooccurrenceEngine):
    """Implements `ElasticEngine`; writes what it does into a diary beside the bundle."""

    beam = BEAM

    def __init__(self, bundle: Path) -> None:
        super().__init__(bundle)
        self._folder = bundle.parent
        self._gone: set[str] = set()

    def recommend_within(
        self, requests: Sequence[EngineRequest], beam: int, wanted: Callable[[], bool]
    ) -> list[EngineAnswer]:
        users = [one.user_id for one in requests]
        steps = int(file.read_text()) if (file := self._folder / STEPS).exists() else 0
        with (self._folder / _BEGUN).open("a") as begun:
            begun.write(json.dumps(users) + "\n")
        for step in range(steps):
            if not wanted():
                self._note(left=users, step=step)
                raise AbandonedError("nobody waits")
            if (self._folder / FINISH).exists():
                break
            time.sleep(0.01)
        self._note(answered=users, beam=beam)
        found = self.recommend(requests)
        return [EngineAnswer(tuple(item for item in one.items if item.item_id not in self._gone)) for one in found]

    def set_available(self, item_ids: Iterable[str], available: bool) -> None:
        names = sorted(item_ids)
        self._gone = self._gone - set(names) if available else self._gone | set(names)
        self._note(available=available, items=names)

    def forget(self, digests: Sequence[str]) -> None:
        self._note(forgotten=list(digests))

    def kept_bytes(self) -> dict[str, int]:
        return {"states": 1234}

    def _note(self, **what: Any) -> None:
        with (self._folder / DIARY).open("a") as diary:
            diary.write(json.dumps(what) + "\n")


def load_stepping(bundle: Path) -> SteppingEngine:
    return SteppingEngine(bundle)


def diary(bundle: Path) -> list[dict[str, Any]]:
    """What engines of a bundle noted, without their calibration."""
    lines = (bundle.parent / DIARY).read_text().splitlines()
    return [
        note
        for one in lines
        if (note := json.loads(one)).get("answered") != [None] * len(note.get("answered", [])) or "answered" not in note
    ]


def take_steps(bundle: Path, steps: int) -> None:
    """How many steps of 10 ms each batch takes that begins from now on."""
    fresh = bundle.parent / f"{STEPS}.new"
    fresh.write_text(str(steps))
    fresh.replace(bundle.parent / STEPS)  # never half written where an engine reads it


def begun(bundle: Path) -> Counter[str]:
    """How often engines have taken up a batch of a user so far."""
    lines = (bundle.parent / _BEGUN).read_text().splitlines()
    return Counter(user for line in lines for user in json.loads(line) if user)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, however slow the machine."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def write_variant(path: Path, users: int, *, histories: bool = True) -> Bundle:
    """The small market with fewer users, so that it is another bundle; without histories no engine can load it."""
    writer = BundleWriter(path)
    pq.write_table(items_table(), writer.part(parts.ITEMS))
    if histories:
        kept = histories_table().filter(
            pa.compute.is_in(histories_table()["user_id"], pa.array([f"u{n}" for n in range(users)]))
        )
        pq.write_table(kept, writer.part(parts.HISTORIES))
    save_file({"vectors": item_vectors()}, writer.part(parts.ITEM_VECTORS))
    return writer.commit({"items": len(items_table())})


def asked(user: str, *, wait: float | None = None, count: int = 3) -> EngineRequest:
    """A request of a named user, with so many seconds left."""
    deadline = None if wait is None else time.monotonic() + wait
    return EngineRequest(HISTORY, count, user_id=user, deadline=deadline)


def run(
    bundle: Path,
    work: Callable[[EnginePool], Awaitable[None]],
    *,
    limits: EngineLimits = PATIENT,
    unavailable: Callable[[], frozenset[str]] = frozenset,
    factory: str = FACTORY,
) -> None:
    """Do something with a loaded pool."""

    async def main() -> None:
        engine = EnginePool(factory, Bundle.open(bundle), unavailable, limits)
        engine.start()
        try:
            await asyncio.wait_for(engine.wait_ready(), 120)
            await work(engine)
        finally:
            await engine.stop()

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:  # as an engine process has it
        runner.run(main())


async def all_ready(engine: EnginePool) -> None:
    """Wait until every process of a pool is loaded."""
    await until(lambda: all(one.ready for one in engine.status.engines))


class Crowd:
    """Asks on and on, a new request every few milliseconds, until the `async with` ends; keeps every outcome."""

    def __init__(self, engine: EnginePool, every_seconds: float = 0.005) -> None:
        self._engine = engine
        self._every_seconds = every_seconds
        self._tasks: list[asyncio.Task[EngineAnswer]] = []
        self._sending: asyncio.Task[None] | None = None
        self.answers: list[EngineAnswer] = []

    async def __aenter__(self) -> Crowd:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._sending is not None
        self._sending.cancel()
        self.answers = await asyncio.gather(*self._tasks)  # an error of any of them is an error of the test

    @property
    def sent(self) -> int:
        return len(self._tasks)

    async def _send(self) -> None:
        while True:
            self._tasks.append(asyncio.create_task(self._engine.recommend(asked(f"crowd-{self.sent}"))))
            await asyncio.sleep(self._every_seconds)
