"""The engine under load: its capacity, then 70 % and 150 % of it from an open loop; one JSON line at the end.

A real engine process (or several) with the reference shape. Capacity is what a closed loop of clients gets answered in
time at the full beam. The open loop is a process of its own: the moments of a Poisson process are drawn beforehand and
told when they come, whatever the engine does; a request's latency runs from the moment at which it should have been
sent, so that a stall of engine, service or generator is paid for by every request that falls into it. Load, service and
engine share the machine's cores. Users come again and again, so that their states are kept; with `--strangers` nobody
comes twice, and every history is read. A machine that is shared changes its speed within a minute, so that 70 % of a
capacity measured before may be 100 % of what there is: with `--turns N` the capacity is measured N times for a few
seconds, each time followed by an Nth of every load at shares of what was just found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from uvicorn.loops.auto import auto_loop_factory

from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, OverloadedError
from asterism.core.pauses import keep_pauses_short
from asterism.core.progress import track
from asterism.models.ugt.inference import Precision
from asterism.serving.engine.limits import EngineLimits
from asterism.serving.engine.pool import EnginePool
from asterism.serving.places import CUDA_ENGINE, DEFAULT_ENGINE
from asterism.serving.ports import EngineRequest, HistoryEvent
from peers import commit
from reference_shape import MODEL, item_ids_of, write_reference_bundle

COUNT = 10
USERS = 512
SENDER = Path(__file__).with_name("open_loop_sender.py")
HEAD_START_SECONDS = 1.0  # in which the sender starts
PATIENCE_SECONDS = 30.0  # after the last request; whoever has no answer by then hangs

_FEWEST_ANSWERS, _LONGEST_SECONDS = 50, 60.0  # for a capacity
_CAPACITY_SECONDS, _CAPACITY_OF_A_TURN = 10.0, 2.0

Row = dict[str, Any]


def make_requests(items: int, seed: int) -> list[EngineRequest]:
    """Users with as many random events as the model reads, none of which they want again."""
    drawn, ids = random.Random(seed), item_ids_of(items)
    found = []
    for user in range(USERS):
        events = [HistoryEvent(1_700_000_000 + place, drawn.choice(ids), "click") for place in range(MODEL.max_events)]
        found.append(EngineRequest(tuple(events), COUNT, frozenset(one.item_id for one in events), f"user-{user}"))
    return found


def rss_mb(pids: list[int | None]) -> list[float]:
    """Resident memory of processes, in MB."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids if pid is not None]
    return [round(one * os.sysconf("SC_PAGE_SIZE") / 1e6, 1) for one in pages]


class Outcomes:
    """What became of requests, and when."""

    def __init__(self, deadline_seconds: float, strangers: bool) -> None:
        self._deadline_seconds, self._strangers = deadline_seconds, strangers
        self._requests = 0
        self.counts: Counter[str] = Counter()
        self.answered_ms: list[float] = []
        self.refused_ms: list[float] = []
        self.beams: Counter[int | None] = Counter()

    def _asked(self, request: EngineRequest, deadline: float) -> EngineRequest:
        self._requests += 1
        user_id = f"stranger-{id(self)}-{self._requests}" if self._strangers else request.user_id
        return EngineRequest(request.history, request.count, request.excluded, user_id, deadline=deadline)

    async def of(self, engine: EnginePool, request: EngineRequest, due: float) -> None:
        """Ask, and note the outcome; `due` is when the request should have been sent."""
        try:
            answer = await engine.recommend(self._asked(request, due + self._deadline_seconds))
        except OverloadedError as error:
            self.counts["shed" if error.retry_after_seconds is not None else "late"] += 1
            self.refused_ms.append(1000 * (time.monotonic() - due))
        except AsterismError:
            self.counts["failed"] += 1
        else:
            ms = 1000 * (time.monotonic() - due)
            self.answered_ms.append(ms)
            self.counts["answered" if ms <= 1000 * self._deadline_seconds else "answered too late"] += 1
            self.counts["degraded"] += answer.degraded
            self.beams[answer.beam] += 1


async def closed_loop(engine: EnginePool, requests: list[EngineRequest], seconds: float, arguments: Any) -> float:
    """Requests answered in time, a second, for clients that each wait for their answer before they ask again."""
    outcomes = Outcomes(arguments.deadline_ms / 1000, arguments.strangers)
    start = time.monotonic()

    def goes_on() -> bool:
        spent = time.monotonic() - start
        return spent < seconds or (outcomes.counts["answered"] < _FEWEST_ANSWERS and spent < _LONGEST_SECONDS)

    async def client(number: int) -> None:
        drawn = random.Random(number)
        while goes_on():
            before = outcomes.counts["shed"] + outcomes.counts["late"]
            await outcomes.of(engine, drawn.choice(requests), time.monotonic())
            if outcomes.counts["shed"] + outcomes.counts["late"] > before:
                await asyncio.sleep(0.005)

    await asyncio.gather(*(client(number) for number in range(arguments.clients)))
    if outcomes.counts["answered"] == 0:
        raise SystemExit(f"nothing was answered within {arguments.deadline_ms:g} ms")
    return outcomes.counts["answered"] / (time.monotonic() - start)


class Sender:
    """Calls with the number of each moment when it comes, on the running loop; see `open_loop_sender`."""

    def __init__(self, moments: NDArray[np.float64], call: Callable[[int], None]) -> None:
        self.left, self.has_ended = len(moments), False
        self._call = call
        self._process = subprocess.Popen([sys.executable, SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._source = self._process.stdout
        self._process.stdin.write(moments.tobytes())
        self._process.stdin.close()

    def __enter__(self) -> Sender:
        asyncio.get_running_loop().add_reader(self._source, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._source)
        self._source.close()
        self._process.wait()

    def _read(self) -> None:
        found = os.read(self._source.fileno(), 1 << 16)  # whole numbers, as each is written at once
        if not found:
            asyncio.get_running_loop().remove_reader(self._source)
            self.has_ended = True
        self.left -= len(found) // 4
        for number in np.frombuffer(found, dtype=np.int32).tolist():
            self._call(number)


class Load:
    """The outcomes of Poisson arrivals at a share of the capacity, in one piece or several."""

    def __init__(self, share: float, arguments: Any) -> None:
        self.share = share
        self._outcomes = Outcomes(arguments.deadline_ms / 1000, arguments.strangers)
        self._rates: list[float] = []
        self._requests = self._batches = self._hanging = 0
        self._rss_mb: list[list[float]] = []
        self._p99s_ms: list[float | None] = []

    async def go_on(
        self, engine: EnginePool, requests: list[EngineRequest], rate: float, seconds: float, seed: int
    ) -> None:
        """Send at a rate a second, and wait for the answers."""
        drawn = np.random.default_rng(seed)
        gaps = drawn.exponential(1.0 / rate, max(1, int(rate * seconds)))
        chosen = drawn.integers(0, len(requests), len(gaps))
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        pids = [os.getpid(), *(one.pid for one in engine.status.engines)]
        before, batches = rss_mb(pids), engine.status.figures.batches
        answered = len(self._outcomes.answered_ms)

        def begin(request: EngineRequest, due: float) -> None:
            task = loop.create_task(self._outcomes.of(engine, request, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        due = time.monotonic() + HEAD_START_SECONDS + np.cumsum(gaps)
        with Sender(due, lambda number: begin(requests[chosen[number]], float(due[number]))) as sender:
            for _ in track(range(math.ceil(seconds)), f"{rate:.0f} requests a second"):
                await asyncio.sleep(1.0)
            while not sender.has_ended:
                await asyncio.sleep(0.05)
        if sender.left:
            raise SystemExit("the process that sends has ended too early")
        end = time.monotonic() + PATIENCE_SECONDS
        while tasks and time.monotonic() < end:
            await asyncio.sleep(0.05)
        self._rates.append(rate)
        self._requests += len(gaps)
        self._hanging += len(tasks)
        self._batches += engine.status.figures.batches - batches
        self._rss_mb += [before, rss_mb(pids)]
        self._p99s_ms.append(_percentile(self._outcomes.answered_ms[answered:], 99))

    def row(self) -> Row:
        """All of it in figures."""
        found = self._outcomes
        return {
            "share": self.share,
            "rate": round(sum(self._rates) / len(self._rates), 1),
            "requests": self._requests,
            **{name: found.counts[name] for name in ("answered", "answered too late", "shed", "late", "failed")},
            "degraded": found.counts["degraded"],
            "hanging": self._hanging,
            "p50_ms": _percentile(found.answered_ms, 50),
            "p99_ms": _percentile(found.answered_ms, 99),
            "p99_by_turn_ms": self._p99s_ms,
            "max_ms": _percentile(found.answered_ms, 100),
            "refused_p99_ms": _percentile(found.refused_ms, 99),
            "beams": {str(beam): count for beam, count in sorted(found.beams.items(), reverse=True)},
            "mean_rows": round(len(found.answered_ms) / max(1, self._batches), 1),
            "rss_mb_before": self._rss_mb[0],
            "rss_mb_after": self._rss_mb[-1],
        }


def _percentile(values: list[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 2) if values else None


@asynccontextmanager
async def running(factory: str, bundle: Bundle, limits: EngineLimits) -> AsyncIterator[EnginePool]:
    """An engine that loads, and is ended afterwards."""
    engine = EnginePool(factory, bundle, frozenset, limits)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def measure(bundle: Bundle, arguments: Any) -> Row:
    """Capacity at the full beam, by engines of its own, and the loads with all widths allowed, by turns."""
    requests = make_requests(arguments.items, arguments.seed)
    limits = EngineLimits(engines=arguments.engines, pin=arguments.pin, min_beam=arguments.beam)
    free = replace(limits, min_beam=arguments.min_beam)
    loads = [Load(share, arguments) for share in arguments.loads]
    seconds = arguments.seconds / arguments.turns
    at_capacity = min(_CAPACITY_SECONDS if arguments.turns == 1 else _CAPACITY_OF_A_TURN, arguments.seconds)
    factory = CUDA_ENGINE if arguments.device == "cuda" else DEFAULT_ENGINE
    capacities: list[float] = []
    async with running(factory, bundle, limits) as wide, running(factory, bundle, free) as engine:
        await asyncio.gather(wide.wait_ready(), engine.wait_ready())
        for one in (wide, engine):  # who returns was there before: a fresh engine has everyone's history to read
            await closed_loop(one, requests, min(2.0, arguments.seconds), arguments)
        for turn in range(arguments.turns):
            capacities.append(await closed_loop(wide, requests, at_capacity, arguments))
            lone = wide.status.figures.lone_ms
            print(f"capacity {capacities[-1]:.0f} requests a second at the full beam; one alone takes {lone:.2f} ms")
            for load in loads:
                seed = arguments.seed + 1000 * turn
                await load.go_on(engine, requests, load.share * capacities[-1], seconds, seed)
        rows = [load.row() for load in loads]
        for row in rows:
            print_row(row)
        return {
            "capacity": round(sum(capacities) / len(capacities), 1),
            "capacities": [round(one, 1) for one in capacities],
            "lone_ms": round(lone, 2),
            "widths": engine.status.widths,
            "rows": rows,
        }


def print_row(row: Row) -> None:
    """A load's outcomes in words."""
    parts = ", ".join(
        f"{name} {row[name] / row['requests']:.1%}"
        for name in ("answered", "degraded", "shed", "late", "answered too late", "failed")
    )
    print(f"{row['share']:.0%} of it, {row['rate']} a second: {parts}, hanging {row['hanging']}")
    print(
        f"  P50 {row['p50_ms']} ms, P99 {row['p99_ms']} ms, longest {row['max_ms']} ms; mean batch {row['mean_rows']}"
    )
    print(f"  memory of service and engines {row['rss_mb_before']} → {row['rss_mb_after']} MB")


def main() -> None:
    """Parse the arguments, make the bundle, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.7, 1.5], help="shares of the capacity")
    parser.add_argument("--turns", type=int, default=1, help="of measuring the capacity and then loading a part of it")
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--clients", type=int, default=32, help="of the closed loop")
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the model answers")
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--beam", type=int, default=20)
    parser.add_argument("--min-beam", type=int, default=None)
    parser.add_argument("--precision", default="bf16", choices=get_args(Precision), help="in which the model answers")
    parser.add_argument("--strangers", action="store_true", help="nobody comes twice")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keep_pauses_short()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_reference_bundle(
            Path(folder) / "reference",
            items=arguments.items,
            beam=arguments.beam,
            seed=arguments.seed,
            precision=arguments.precision,
        )
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:  # as engines run
            found = runner.run(measure(bundle, arguments))
    print(f"one thread in each of {arguments.engines} engines; load and engines share {os.cpu_count()} cores")
    print(
        json.dumps(
            {
                "benchmark": "engine_load",
                "commit": commit(),
                "cores": os.cpu_count(),
                "threads_per_engine": 1,
                **vars(arguments),
                **found,
            }
        )
    )


if __name__ == "__main__":
    try:
        main()
    except AsterismError as error:
        sys.exit(str(error))
