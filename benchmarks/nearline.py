"""From a click to a changed feed, through all processes of a deployment; one JSON line at the end.

`asterism serve` runs as an operator starts it, with its embedded stores or with those that `--config` names. Users look
at a feed and click its first item at the moments of a Poisson process that is drawn beforehand. Half of them, by turns,
look again at once: their time runs until an answer of the model without the clicked item is there. The other half do
nothing until the nearline loop has kept their next slate, which is watched over gRPC; then they look, and are answered
from it. All times run from the moment at which the click should have been sent. Load and service share the cores.
With `--burst`, so many more clicks, each of another user, come at `--burst-rate` and nobody looks: what a click costs
every process in CPU time beyond what it spends idle, until all slates are made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np

from asterism.core.errors import AsterismError
from asterism.core.progress import track
from asterism.models.ugt.inference import Precision
from asterism.serving.slate_inputs import SlateInput
from asterism.serving.supervisor.run_folder import gateway_address
from asterism.serving.worker.visitors import GatewayVisitors, Waiting
from asterism.stores.user_state import Visitor
from peers import commit
from reference_shape import item_ids_of, write_reference_bundle
from serving_parts.load import Call, open_loop, post
from serving_parts.processes import cpu_seconds
from serving_parts.running import serving

_LONGEST_SECONDS = 10.0
_LOOK_SECONDS = 0.005
_WARM_UP_CLICKS = 12
_IDLE_SECONDS = 5.0
_SETTLE_SECONDS = 5.0  # more than the slowest group of the worker gathers


class Click:
    """One user's click, and what came of it."""

    def __init__(self, user_id: str, *, waits: bool) -> None:
        self.user_id = user_id
        self.waits = waits  # for the nearline slate, rather than look at once
        self.changed_ms: float | None = None
        self.source = ""
        self.cached = False
        self.still_shown = False


class Users:
    """People in front of a service."""

    def __init__(self, http: httpx.AsyncClient, slates: GatewayVisitors) -> None:
        self._http = http
        self._slates = slates

    async def look(self, user_id: str) -> dict[str, Any]:
        """A feed of ten."""
        answer = (await self._http.post("/api/v1/recommend", json={"user_id": user_id})).json()
        if answer["code"] != 0:
            raise SystemExit(f"no feed: {answer['message']}")
        return dict(answer["data"])

    async def click(self, one: Click, due: float) -> None:
        """Look, wait until the click is due, click, and see the feed change."""
        first = (await self.look(one.user_id))["items"][0]["item_id"]
        before = await self._last_revision(one.user_id)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        body = {"user_id": one.user_id, "item_id": first, "action": "click"}
        answer = (await self._http.post("/api/v1/feedback", json=body)).json()
        if answer["code"] != 0:
            raise SystemExit(f"no click: {answer['message']}")
        if one.waits:
            await self._next_slate(one.user_id, before)
        feed = await self.look(one.user_id)
        one.changed_ms = (time.monotonic() - due) * 1000
        one.source, one.cached = feed["source"], feed["cached"]
        one.still_shown = first in [item["item_id"] for item in feed["items"]]

    async def warm_up(self, user_id: str) -> None:
        """Click until the worker, which starts last, makes slates."""
        for _ in range(_WARM_UP_CLICKS):
            one = Click(user_id, waits=True)
            await self.click(one, time.monotonic())
            if one.cached:
                return
        raise SystemExit("the worker makes no slates")

    async def _next_slate(self, user_id: str, revision: int) -> None:
        end = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < end:
            if await self._last_revision(user_id) not in {0, revision}:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _last_revision(self, user_id: str) -> int:
        """Of the state that the last slate was made from; 0 where there is none, or the gateway is late."""
        with contextlib.suppress(AsterismError):
            (found,) = await self._slates.inputs([Waiting(Visitor(user_id), None)])
            if isinstance(found, SlateInput) and found.last is not None:
                return found.last.revision
        return 0


async def measure(base_url: str, address: str, clicks: list[Click], rate: float, seed: int) -> None:
    """Make all clicks, `rate` a second."""
    drawn = random.Random(seed)
    slates = GatewayVisitors(address)
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=base_url, timeout=30.0, limits=limits) as http:
        users = Users(http, slates)
        await users.warm_up("a warming user")
        due = time.monotonic() + 1.0
        tasks = []
        for one in track(clicks, "clicking"):
            due += drawn.expovariate(rate)
            await asyncio.sleep(max(0.0, due - 1.0 - time.monotonic()))  # the first look goes before
            tasks.append(asyncio.create_task(users.click(one, due)))
        await asyncio.gather(*tasks)
    await slates.close()


def cost_of_clicks(address: tuple[str, int], pid: int, clicks: int, rate: float, items: int) -> dict[str, float]:
    """CPU milliseconds of one click by process role."""
    body = '{"user_id": "user-%06d", "item_id": "%s", "action": "click"}'
    ids = item_ids_of(items)
    calls = [
        Call("feedback", post("/api/v1/feedback", (body % (user, ids[user * 7 % items])).encode()))
        for user in range(clicks)
    ]
    before = cpu_seconds(pid)
    time.sleep(_IDLE_SECONDS)
    idle = {role: (now - before[role]) / _IDLE_SECONDS for role, now in cpu_seconds(pid).items()}
    before, began = cpu_seconds(pid), time.monotonic()
    found = open_loop(address, calls, rate, clicks / rate)
    time.sleep(_SETTLE_SECONDS)
    seconds = time.monotonic() - began
    if found.counts["answered"] != clicks:
        raise SystemExit(f"not every click was taken: {dict(found.counts)}")
    spent = {role: now - before[role] - seconds * idle[role] for role, now in cpu_seconds(pid).items()}
    return {role: round(1000 * one / clicks, 3) for role, one in sorted(spent.items())}


def figures(clicks: list[Click]) -> dict[str, Any]:
    """Milliseconds, and how the feeds came about."""
    times = [one.changed_ms for one in clicks if one.changed_ms is not None]
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(1).tolist()
    return {
        "clicks": len(clicks),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "from_model": sum(one.source == "model" for one in clicks),
        "from_kept_slate": sum(one.cached for one in clicks),
        "still_shown": sum(one.still_shown for one in clicks),
    }


def main() -> None:
    """Parse, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="a deployment's file; embedded stores without it")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--clicks", type=int, default=400)
    parser.add_argument("--rate", type=float, default=10.0, help="clicks a second")
    parser.add_argument("--burst", type=int, default=0, help="clicks whose cost in CPU time is measured")
    parser.add_argument("--burst-rate", type=float, default=200.0, help="of these, a second")
    parser.add_argument("--precision", default="bf16", choices=get_args(Precision), help="in which the model answers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.burst > options.users:
        raise SystemExit(f"--burst {options.burst} needs as many --users; there are {options.users}")
    with tempfile.TemporaryDirectory() as folder:
        bundle, state = Path(folder) / "bundle", Path(folder) / "state"
        write_reference_bundle(
            bundle, items=options.items, users=options.users, seed=options.seed, precision=options.precision
        )
        drawn = random.Random(options.seed).sample(range(options.users), options.clicks)
        clicks = [Click(f"user-{user:06d}", waits=place % 2 == 1) for place, user in enumerate(drawn)]
        config = () if options.config is None else ("--config", str(options.config))
        with serving(bundle, state, config) as ((host, port), pid):
            asyncio.run(measure(f"http://{host}:{port}", gateway_address(state), clicks, options.rate, options.seed))
            burst = (
                cost_of_clicks((host, port), pid, options.burst, options.burst_rate, options.items)
                if options.burst
                else None
            )
    row = {
        "benchmark": "nearline",
        "stores": "embedded" if options.config is None else options.config.stem,
        "items": options.items,
        "users": options.users,
        "precision": options.precision,
        "clicks_per_second": options.rate,
        "looks_at_once": figures([one for one in clicks if not one.waits]),
        "waits_for_the_slate": figures([one for one in clicks if one.waits]),
        "cpu_ms_a_click": burst,
        "burst_per_second": options.burst_rate,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "commit": commit(),
        "seed": options.seed,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
