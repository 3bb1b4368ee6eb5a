"""The service under load, over HTTP: capacity, latencies at a rate, and memory over time; one JSON line at the end.

Real processes (`asterism serve`: supervisor, gateway, engine, worker) on a bundle of the reference shape. The load is
a process of its own, on the same cores as everything else. `cached`: visitors whose slate is valid. `fresh`: requests
that no kept slate may answer, so that the engine is asked. `feedback`: one click, durable before it is answered. On a
machine whose speed changes, `--turns N` measures the capacity and loads a share of it N times for an Nth of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

from asterism.core.progress import track
from asterism.models.ugt.inference import Precision
from peers import commit
from reference_shape import item_ids_of
from serving_parts.load import Call, Outcomes, closed_loop, cycle_of, each_once, open_loop, post
from serving_parts.processes import cpu_seconds, rss_mb, wait_complete
from serving_parts.redis_beside import redis_beside
from serving_parts.running import serving
from serving_parts.shop import user_ids_of, write_shop

MIXED = {"cached": 0.72, "fresh": 0.18, "feedback": 0.10}  # of reads 80 % and 20 %
_POOLS = 5
_SETTLING_SECONDS = 3.0
_WARM_SHARE, _WARM_SECONDS = 0.99, 120.0
_PAUSE_SECONDS = 0.5  # as long as a breaker that has opened lets nobody through
RECOMMEND, FEEDBACK = "/api/v1/recommend", "/api/v1/feedback"

Row = dict[str, Any]


def calls_of(arguments: argparse.Namespace, scenario: int) -> dict[str, list[bytes]]:
    """Requests of each kind; cached ones ask as users of the scenario's own, who send no feedback.

    Slates of users who were all asked at once would also all end at once, in the middle of the next scenario.
    """
    users, items = user_ids_of(arguments.users), item_ids_of(arguments.items)
    random = np.random.default_rng(arguments.seed)
    encode = msgspec.json.encode
    pools = min(_POOLS, (len(users) - 1) // arguments.cached_users)
    first = scenario % pools * arguments.cached_users
    cached, others = users[first : first + arguments.cached_users], users[pools * arguments.cached_users :]
    count = {"count": 10, "scene": "home"}
    return {
        "cached": [post(RECOMMEND, encode({"user_id": user, **count})) for user in cached],
        "fresh": [
            post(RECOMMEND, encode({"user_id": user, **count, "exclude": [items[number % len(items)]]}))
            for number, user in enumerate(others)
        ],
        "feedback": [
            post(FEEDBACK, encode({"user_id": user, "item_id": items[int(one)], "action": "click"}))
            for user, one in zip(others, random.integers(0, len(items), len(others)), strict=True)
        ],
    }


def warm_up(address: tuple[str, int], calls: dict[str, list[bytes]]) -> None:
    """Have every cached visitor's slate computed, a few at a time, until all of them are answered from what is kept."""
    each = [Call("cached", one) for one in calls["cached"]]
    end = time.monotonic() + _WARM_SECONDS
    while True:
        found = each_once(address, each, connections=8)
        if found.counts["cached"] >= _WARM_SHARE * len(each):
            return
        if time.monotonic() > end:
            raise SystemExit(f"only {found.counts['cached']} of {len(each)} slates were kept after {_WARM_SECONDS} s")
        time.sleep(_PAUSE_SECONDS)


def cached_path(address: tuple[str, int], calls: dict[str, list[bytes]], arguments: argparse.Namespace) -> Row:
    """Capacity of the cached read path, and its latencies at a share of that, by turns."""
    each = [Call("cached", one) for one in calls["cached"]]
    seconds = arguments.seconds / arguments.turns
    full, steady, capacities = Outcomes(), Outcomes(), []
    for turn in range(arguments.turns):
        warm_up(address, calls)
        closed = closed_loop(address, each, seconds, connections=arguments.connections)
        capacities.append(closed.counts["answered"] / closed.seconds)
        warm_up(address, calls)
        seed = arguments.seed + 1000 * turn
        steady += open_loop(address, each, arguments.share * capacities[-1], seconds, seed=seed)
        full += closed
    found = {
        "capacity": round(full.counts["answered"] / full.seconds, 1),
        "capacities": [round(one, 1) for one in capacities],
        "closed": full.row(),
        "share": arguments.share,
        "steady": steady.row(),
    }
    for rate in arguments.cached_rates:  # that runs of several days have in common
        warm_up(address, calls)
        found[f"at_{rate:g}"] = open_loop(address, each, rate, arguments.seconds, seed=arguments.seed).row()
        say(f"cached at {rate:g}/s", found[f"at_{rate:g}"])
    return found


def mixed(address: tuple[str, int], calls: dict[str, list[bytes]], rate: float, seconds: float, seed: int) -> Outcomes:
    """80 % of reads cached, 20 % fresh, and a tenth of all requests feedback."""
    warm_up(address, calls)
    return open_loop(address, cycle_of(calls, MIXED, 50_000, seed), rate, seconds, seed=seed)


def costs(address: tuple[str, int], pid: int, calls: dict[str, list[bytes]], arguments: argparse.Namespace) -> Row:
    """CPU time a request of each kind, in ms by role, without what the processes take when nobody asks."""
    warm_up(address, calls)
    time.sleep(_SETTLING_SECONDS)
    before, began = cpu_seconds(pid), time.perf_counter()
    time.sleep(arguments.seconds / 2)
    idle = {role: (spent - before[role]) / (time.perf_counter() - began) for role, spent in cpu_seconds(pid).items()}
    found: Row = {"idle_cores": {role: round(share, 3) for role, share in idle.items()}}
    for kind in track(list(MIXED), "costs of each kind"):
        each = [Call(kind, one) for one in calls[kind]]
        before, began = cpu_seconds(pid), time.perf_counter()
        row = open_loop(address, each, arguments.cost_rate, arguments.seconds, seed=arguments.seed).row()
        time.sleep(_SETTLING_SECONDS)  # what requests leave to be done is theirs too
        seconds = time.perf_counter() - began
        spent = {role: now - before[role] - seconds * idle[role] for role, now in cpu_seconds(pid).items()}
        found[kind] = {role: round(1000 * one / row["requests"], 3) for role, one in spent.items()} | {"load": row}
    return found


def long_run(address: tuple[str, int], pid: int, arguments: argparse.Namespace) -> Row:
    """Minutes of mixed traffic, with the memory of all processes each minute."""
    rows, memory = [], [rss_mb(pid)]
    for minute in track(range(arguments.minutes), "minutes of mixed traffic"):
        calls = calls_of(arguments, 3 + minute)
        rows.append(mixed(address, calls, arguments.rate, 60.0, arguments.seed + minute).row())  # slates end within
        memory.append(rss_mb(pid))
    return {"minutes": rows, "rss_mb": memory}


def write_deployment(folder: Path, state: str) -> Path:
    """Embedded stores below the folder but for users' states, and limits that refuse nothing of what is measured."""
    stores = {
        "catalogue": f"sqlite:///{folder}/state/catalogue.db",
        "state": state,
        "bus": f"local:{folder}/state/events",
        "history": f"chdb:{folder}/state/history",
        "vectors": "exact",
        "blobs": f"file:{folder}/state/blobs",
    }
    lines = ["[stores]", *(f'{name} = "{url}"' for name, url in stores.items())]
    path = folder / "deployment.toml"
    path.write_text("\n".join([*lines, "[guard]", "instance_per_second = 1e6", ""]))
    return path


def measure(arguments: argparse.Namespace, folder: Path) -> Row:
    """All figures asked for."""
    bundle = arguments.bundle or folder / "bundle"
    if arguments.bundle is None:
        write_shop(
            bundle, items=arguments.items, users=arguments.users, seed=arguments.seed, precision=arguments.precision
        )
    found: Row = {}
    with ExitStack() as around:
        state = around.enter_context(redis_beside(folder)) if arguments.state == "redis" else arguments.state
        options = ["--config", str(write_deployment(folder, state)), *arguments.serve.split()]
        address, pid = around.enter_context(serving(bundle, folder / "state", options))
        found["processes"] = wait_complete(pid)
        found["rss_mb"] = rss_mb(pid)
        if "cached" in arguments.only:
            found["cached"] = cached_path(address, calls_of(arguments, 0), arguments)
            before = f"capacity {found['cached']['capacity']}/s; at {arguments.share:.0%}: "
            say("cached", found["cached"]["steady"], before)
        if "mixed" in arguments.only:
            found["mixed"] = mixed(
                address, calls_of(arguments, 1), arguments.rate, arguments.seconds, arguments.seed
            ).row()
            say("mixed", found["mixed"])
        if "costs" in arguments.only:
            found["costs"] = costs(address, pid, calls_of(arguments, 2), arguments)
            for kind in MIXED:
                figures = {role: ms for role, ms in found["costs"][kind].items() if role != "load"}
                print(f"CPU ms a {kind} request: {figures}", flush=True)
        if arguments.minutes:
            found["long"] = long_run(address, pid, arguments)
            found["rss_mb_after"] = rss_mb(pid)
    return found


def say(name: str, row: Row, before: str = "") -> None:
    """A scenario's figures in words."""
    print(
        f"{name}: {before}{row['per_second']}/s, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms, "
        f"p99.9 {row['p999_ms']} ms, errors {row['error_share']:.4%}",
        flush=True,
    )


def main() -> None:
    """Run the scenarios that are asked for and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--cached-users", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument(
        "--turns", type=int, default=1, help="of measuring the cached capacity and loading a share of it"
    )
    parser.add_argument("--share", type=float, default=0.7, help="of the cached capacity, for its latencies")
    parser.add_argument("--cached-rates", type=float, nargs="*", default=[], help="further rates of cached reads")
    parser.add_argument("--rate", type=float, default=2_000.0, help="requests a second of mixed traffic")
    parser.add_argument("--minutes", type=int, default=0, help="of mixed traffic, with the memory of all processes")
    parser.add_argument("--connections", type=int, default=16, help="of the closed loop")
    parser.add_argument("--only", nargs="+", default=["cached", "mixed"], choices=["cached", "mixed", "costs"])
    parser.add_argument("--cost-rate", type=float, default=200.0, help="requests a second whose CPU time is measured")
    parser.add_argument("--state", choices=["memory", "redis"], default="memory", help="where users' states are")
    parser.add_argument("--bundle", type=Path, help="another bundle whose users and items are named as the made ones")
    parser.add_argument("--serve", default="", help="further options of `asterism serve`, in one string")
    parser.add_argument("--precision", default="bf16", choices=get_args(Precision), help="in which the model answers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    settings = {name: value for name, value in vars(arguments).items() if name not in ("bundle",)}
    print(json.dumps({"benchmark": "serving", "commit": commit(), "cores": os.cpu_count(), **settings, **found}))


if __name__ == "__main__":
    main()
